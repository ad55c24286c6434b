/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What lib/native.js finds: functions on numbers, texts, Buffers and handles. Arguments come from
 * lib/ and have been checked there; here it is only made sure that none of them can do harm. */
#include "binding.h"

#include <stdlib.h>
#include <string.h>

/* What a handle is, so that one of another kind is not taken for it. */
static const napi_type_tag client_tag = {0x616c6b6e65740001, 0x636c69656e740001};
static const napi_type_tag server_tag = {0x616c6b6e65740002, 0x7365727665720002};

#define ARGS_MAX 6

struct call {
	napi_env napi;
	struct env *env;
	size_t argc;
	napi_value argv[ARGS_MAX];
};

static napi_value undefined(napi_env napi)
{
	napi_value value;

	napi_get_undefined(napi, &value);
	return value;
}

static napi_value boolean(napi_env napi, bool is)
{
	napi_value value;

	napi_get_boolean(napi, is, &value);
	return value;
}

/* False with a pending exception. */
static bool call_begin(struct call *call, napi_env napi, napi_callback_info info, size_t needs)
{
	void *env = NULL;

	*call = (struct call){.napi = napi, .argc = ARGS_MAX};
	napi_get_cb_info(napi, info, &call->argc, call->argv, NULL, NULL);
	napi_get_instance_data(napi, &env);
	call->env = env;
	if (call->argc >= needs && env != NULL)
		return true;
	napi_throw_type_error(napi, NULL,
			      env == NULL ? "begin() comes first" : "an argument is missing");
	return false;
}

static bool bad(const struct call *call, const char *what)
{
	napi_throw_type_error(call->napi, NULL, what);
	return false;
}

static bool number_get(const struct call *call, size_t i, double *number)
{
	return napi_get_value_double(call->napi, call->argv[i], number) == napi_ok ||
	       bad(call, "not a number");
}

static bool flag_get(const struct call *call, size_t i, bool *flag)
{
	return napi_get_value_bool(call->napi, call->argv[i], flag) == napi_ok ||
	       bad(call, "not a boolean");
}

/* malloc'd; NULL with a pending exception. */
static char *text_get(const struct call *call, napi_value value)
{
	size_t n = 0;
	char *text;

	if (napi_get_value_string_utf8(call->napi, value, NULL, 0, &n) != napi_ok) {
		bad(call, "not a text");
		return NULL;
	}
	text = malloc(n + 1);
	if (text == NULL ||
	    napi_get_value_string_utf8(call->napi, value, text, n + 1, &n) != napi_ok) {
		free(text);
		bad(call, "out of memory");
		return NULL;
	}
	if (strlen(text) == n)
		return text;
	explicit_bzero(text, n);
	free(text);
	bad(call, "there is a NUL in it");
	return NULL;
}

/* ---- settings ---- */

void settings_free(struct alk_setting **settings)
{
	for (struct alk_setting *s = *settings; s != NULL && s->name != NULL; s++) {
		free((char *)(uintptr_t)s->name);
		if (s->value != NULL)
			explicit_bzero((char *)(uintptr_t)s->value, strlen(s->value));
		free((char *)(uintptr_t)s->value);
	}
	free(*settings);
	*settings = NULL;
}

/* [NAME, VALUE, ...]. NULL with a pending exception. */
static struct alk_setting *settings_get(const struct call *call, size_t i)
{
	struct alk_setting *settings = NULL;
	uint32_t n = 0;
	bool good = true;

	if (napi_get_array_length(call->napi, call->argv[i], &n) != napi_ok) {
		bad(call, "not a list");
		return NULL;
	}
	settings = calloc(n / 2 + 1, sizeof(*settings));
	if (settings == NULL)
		bad(call, "out of memory");
	for (uint32_t at = 0; settings != NULL && good && at + 1 < n; at += 2) {
		struct alk_setting *s = &settings[at / 2];
		napi_value name, value;

		good = napi_get_element(call->napi, call->argv[i], at, &name) == napi_ok &&
		       napi_get_element(call->napi, call->argv[i], at + 1, &value) == napi_ok &&
		       (s->name = text_get(call, name)) != NULL &&
		       (s->value = text_get(call, value)) != NULL;
	}
	if (!good)
		settings_free(&settings);
	return settings;
}

/* ---- handles ---- */

static void on_client_dropped(napi_env napi, void *data, void *hint)
{
	struct client *client = data;

	(void)napi, (void)hint;
	client_unref(&client);
}

static void on_server_dropped(napi_env napi, void *data, void *hint)
{
	struct server *server = data;

	(void)napi, (void)hint;
	server_unref(&server);
}

static void on_stream_dropped(napi_env napi, void *data, void *hint)
{
	struct stream *stream = data;

	(void)napi, (void)hint;
	stream_unref(&stream);
}

/* An object that has it inside, which can be told from the others. */
static napi_value handle_new(napi_env napi, void *data, napi_finalize dropped,
			     const napi_type_tag *tag)
{
	napi_value handle;

	if (data == NULL)
		return undefined(napi);
	napi_create_object(napi, &handle);
	if (napi_wrap(napi, handle, data, dropped, NULL, NULL) != napi_ok) {
		dropped(napi, data, NULL);
		return undefined(napi);
	}
	napi_type_tag_object(napi, handle, tag);
	return handle;
}

static void *handle_get(const struct call *call, size_t i, const napi_type_tag *tag)
{
	bool is = false;
	void *data = NULL;

	if (napi_check_object_type_tag(call->napi, call->argv[i], tag, &is) == napi_ok && is &&
	    napi_unwrap(call->napi, call->argv[i], &data) == napi_ok && data != NULL)
		return data;
	bad(call, "not such a handle");
	return NULL;
}

/* Only streams are externals. */
static struct stream *stream_get(const struct call *call, size_t i)
{
	napi_valuetype type = napi_undefined;
	void *data = NULL;

	napi_typeof(call->napi, call->argv[i], &type);
	if (type == napi_external &&
	    napi_get_value_external(call->napi, call->argv[i], &data) == napi_ok && data != NULL)
		return data;
	bad(call, "not a stream's handle");
	return NULL;
}

/* ---- functions ---- */

/* begin(dispatch): `dispatch` gets lists of events. */
static napi_value fn_begin(napi_env napi, napi_callback_info info)
{
	size_t argc = 1;
	napi_value dispatch = NULL;
	napi_valuetype type = napi_undefined;
	void *before = NULL;
	struct env *env;

	napi_get_cb_info(napi, info, &argc, &dispatch, NULL, NULL);
	napi_typeof(napi, dispatch, &type);
	napi_get_instance_data(napi, &before);
	if (before != NULL || type != napi_function) {
		napi_throw_type_error(napi, NULL,
				      before != NULL ? "it has begun" : "not a function");
		return NULL;
	}
	env = env_new(napi, dispatch);
	if (env != NULL)
		napi_set_instance_data(napi, env, NULL, NULL);
	return NULL;
}

/* end(): the process exits; nothing runs there any more. */
static napi_value fn_end(napi_env napi, napi_callback_info info)
{
	struct call call;

	if (call_begin(&call, napi, info, 0))
		env_close(call.env, true);
	return NULL;
}

/* keepAlive(boolean) */
static napi_value fn_keep_alive(napi_env napi, napi_callback_info info)
{
	struct call call;
	bool alive;

	if (call_begin(&call, napi, info, 1) && flag_get(&call, 0, &alive))
		env_keep_alive(call.env, alive);
	return NULL;
}

/* connect(id, settings, again) gives a handle, or undefined: the loop is gone. */
static napi_value fn_connect(napi_env napi, napi_callback_info info)
{
	struct alk_setting *settings;
	struct call call;
	double id;
	bool again;

	if (!call_begin(&call, napi, info, 3) || !number_get(&call, 0, &id) ||
	    !flag_get(&call, 2, &again) || (settings = settings_get(&call, 1)) == NULL)
		return NULL;
	return handle_new(napi, client_new(call.env, id, settings, again), on_client_dropped,
			  &client_tag);
}

/* open(client, id, host, port) gives a stream's handle, or undefined. */
static napi_value fn_open(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct client *client;
	struct stream *stream;
	napi_value handle;
	double id, port;
	char *host;
	bool good;

	if (!call_begin(&call, napi, info, 4) ||
	    (client = handle_get(&call, 0, &client_tag)) == NULL || !number_get(&call, 1, &id) ||
	    !number_get(&call, 3, &port) || (host = text_get(&call, call.argv[2])) == NULL)
		return NULL;
	stream = stream_new(call.env, id);
	good = stream != NULL && client_open(client, stream, host, (uint16_t)port) &&
	       napi_create_external(napi, stream, on_stream_dropped, NULL, &handle) == napi_ok;
	free(host);
	if (good)
		return handle;
	stream_unref(&stream);
	return undefined(napi);
}

/* disconnect(client, now) */
static napi_value fn_disconnect(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct client *client;
	bool now;

	if (!call_begin(&call, napi, info, 2) ||
	    (client = handle_get(&call, 0, &client_tag)) == NULL || !flag_get(&call, 1, &now))
		return NULL;
	return boolean(napi, client_close(client, now));
}

/* read(stream) gives a Buffer or undefined: then an event will. */
static napi_value fn_read(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct stream *stream;
	napi_value value = NULL;

	if (call_begin(&call, napi, info, 1) && (stream = stream_get(&call, 0)) != NULL)
		value = stream_read(napi, stream);
	return value;
}

/* write(stream, Buffer or list of them, strict): 0, 1 or 2 as stream_write() */
static napi_value fn_write(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct stream *stream;
	napi_value value;
	bool strict;

	if (!call_begin(&call, napi, info, 3) || (stream = stream_get(&call, 0)) == NULL ||
	    !flag_get(&call, 2, &strict))
		return NULL;
	napi_create_int32(napi, stream_write(napi, stream, call.argv[1], strict), &value);
	return value;
}

/* finish(stream): the end of file, after what was written */
static napi_value fn_finish(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct stream *stream;

	if (!call_begin(&call, napi, info, 1) || (stream = stream_get(&call, 0)) == NULL)
		return NULL;
	return boolean(napi, stream_end(stream));
}

/* close(stream): both directions, now */
static napi_value fn_close(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct stream *stream;

	if (!call_begin(&call, napi, info, 1) || (stream = stream_get(&call, 0)) == NULL)
		return NULL;
	return boolean(napi, stream_close(stream));
}

/* serve(id, settings) gives a handle, or undefined. */
static napi_value fn_serve(napi_env napi, napi_callback_info info)
{
	struct alk_setting *settings;
	struct call call;
	double id;

	if (!call_begin(&call, napi, info, 2) || !number_get(&call, 0, &id) ||
	    (settings = settings_get(&call, 1)) == NULL)
		return NULL;
	return handle_new(napi, server_new(call.env, id, settings), on_server_dropped, &server_tag);
}

/* accept(server, boolean) */
static napi_value fn_accept(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct server *server;
	bool accept;

	if (call_begin(&call, napi, info, 2) &&
	    (server = handle_get(&call, 0, &server_tag)) != NULL && flag_get(&call, 1, &accept))
		server_accept(server, accept);
	return NULL;
}

/* request(server, number, method, params, settings): params a JSON text or null; settings a list,
 * for a reload with others, or null. */
static napi_value fn_request(napi_env napi, napi_callback_info info)
{
	struct alk_setting *settings = NULL;
	napi_valuetype type = napi_null;
	struct call call;
	struct server *server;
	char *method = NULL, *params = NULL;
	double number;
	bool good;

	if (!call_begin(&call, napi, info, 5) ||
	    (server = handle_get(&call, 0, &server_tag)) == NULL || !number_get(&call, 1, &number))
		return NULL;
	method = text_get(&call, call.argv[2]);
	good = method != NULL;
	napi_typeof(napi, call.argv[3], &type);
	if (good && type != napi_null)
		good = (params = text_get(&call, call.argv[3])) != NULL;
	napi_typeof(napi, call.argv[4], &type);
	if (good && type != napi_null)
		good = (settings = settings_get(&call, 4)) != NULL;
	if (good)
		good = server_request(server, number, method, params, settings);
	free(method);
	free(params);
	return boolean(napi, good);
}

/* stop(server, now) */
static napi_value fn_stop(napi_env napi, napi_callback_info info)
{
	struct call call;
	struct server *server;
	bool now;

	if (!call_begin(&call, napi, info, 2) ||
	    (server = handle_get(&call, 0, &server_tag)) == NULL || !flag_get(&call, 1, &now))
		return NULL;
	return boolean(napi, server_close(server, now));
}

static const struct {
	const char *name;
	napi_callback fn;
} functions[] = {
	{"begin", fn_begin},	 {"end", fn_end},     {"keepAlive", fn_keep_alive},
	{"connect", fn_connect}, {"open", fn_open},   {"disconnect", fn_disconnect},
	{"read", fn_read},	 {"write", fn_write}, {"finish", fn_finish},
	{"close", fn_close},	 {"serve", fn_serve}, {"accept", fn_accept},
	{"request", fn_request}, {"stop", fn_stop},
};

NAPI_MODULE_INIT()
{
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		napi_value value;

		if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].fn,
					 NULL, &value) != napi_ok ||
		    napi_set_named_property(env, exports, functions[i].name, value) != napi_ok)
			return NULL;
	}
	return exports;
}
