/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "policy_private.h"
#include "proxy_url.h"
#include "text.h"

/* What a script returned becomes an answer, or nonsense. Tables are read raw and whole: a key that
 * is not known, a metatable or a value of another type is nonsense, because whoever wrote it meant
 * something that would not happen. Nothing here raises or allocates in Lua. */

#define LIST_MAX 256 /* scopes or resources of an identity */

static int nonsense(struct alk_answer *answer, const char *fmt, ...) ALK_PRINTF(2, 3);
static int nonsense(struct alk_answer *answer, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(answer->reason, sizeof(answer->reason), fmt, args);
	va_end(args);
	answer->failed = true;
	return -EINVAL;
}

/* A text of 1 to `max` bytes, UTF-8 without NUL; NULL if it is anything else. What an answer says
 * goes on as JSON, which knows no other text. */
static const char *text_at(lua_State *L, int index, size_t max)
{
	size_t len;
	const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;

	if (!text || len == 0 || len > max || strlen(text) != len || !alk_text_utf8(text, len))
		return NULL;
	return text;
}

static int copy_text(lua_State *L, const char *key, char *out, size_t size,
		     struct alk_answer *answer)
{
	const char *text = text_at(L, -1, size - 1);

	if (!text)
		return nonsense(answer, "%s must be a UTF-8 text of 1 to %zu bytes", key, size - 1);
	snprintf(out, size, "%s", text);
	return 0;
}

typedef int read_field(lua_State *L, void *user, const char *key, struct alk_answer *answer);

/* Hands each key with its value, on top of the stack, to `read`. */
static int table_each(lua_State *L, int index, read_field *read, void *user,
		      struct alk_answer *answer)
{
	int top = lua_gettop(L), rc = 0;

	if (lua_getmetatable(L, index)) {
		lua_settop(L, top);
		return nonsense(answer, "the answer's table has a metatable");
	}
	lua_pushnil(L);
	while (rc == 0 && lua_next(L, index)) {
		if (lua_type(L, -2) == LUA_TSTRING)
			rc = read(L, user, lua_tostring(L, -2), answer);
		else
			rc = nonsense(answer, "the answer's table has a key that is a %s",
				      luaL_typename(L, -2));
		lua_settop(L, rc == 0 ? top + 1 : top);
	}
	lua_settop(L, top);
	return rc;
}

struct identity_fields {
	const char *id;
	const char *scopes[LIST_MAX + 1];
	const char *resources[LIST_MAX + 1];
};

static int read_list(lua_State *L, const char *key, const char **list, struct alk_answer *answer)
{
	int index = lua_gettop(L);
	lua_Unsigned n, count = 0, i;

	if (!lua_istable(L, index) || lua_getmetatable(L, index))
		return nonsense(answer, "%s must be a list of texts", key);
	n = lua_rawlen(L, index);
	if (n > LIST_MAX)
		return nonsense(answer, "%s has more than %d entries", key, LIST_MAX);
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
		count++;
	if (count != n)
		return nonsense(answer, "%s must be a list of texts", key);
	for (i = 0; i < n; i++) {
		lua_rawgeti(L, index, (lua_Integer)i + 1);
		list[i] = text_at(L, -1, ALK_POLICY_TEXT_MAX);
		lua_pop(L, 1);
		if (!list[i])
			return nonsense(answer, "%s must hold UTF-8 texts of 1 to 255 bytes", key);
	}
	return 0;
}

static int identity_field(lua_State *L, void *user, const char *key, struct alk_answer *answer)
{
	struct identity_fields *fields = user;

	if (strcmp(key, "scopes") == 0)
		return read_list(L, key, fields->scopes, answer);
	if (strcmp(key, "resources") == 0)
		return read_list(L, key, fields->resources, answer);
	if (strcmp(key, "id") != 0)
		return nonsense(answer, "unknown key in the identity: %s", key);
	fields->id = text_at(L, -1, ALK_POLICY_TEXT_MAX);
	if (!fields->id)
		return nonsense(answer, "id must be a UTF-8 text of 1 to 255 bytes");
	return 0;
}

static int read_identity(lua_State *L, int index, const struct alk_ask *ask,
			 struct alk_answer *answer)
{
	struct identity_fields *fields;
	int rc = 0;

	if (!lua_isnil(L, index) && !lua_istable(L, index))
		return nonsense(answer, "the identity is a %s, not a table",
				luaL_typename(L, index));
	fields = calloc(1, sizeof(*fields));
	if (!fields)
		return nonsense(answer, "not enough memory");
	if (lua_istable(L, index))
		rc = table_each(L, index, identity_field, fields, answer);
	if (rc == 0) {
		answer->grant = alk_grant_new(fields->id, ask->user, ask->key_fingerprint,
					      fields->scopes,
					      fields->resources[0] ? fields->resources : NULL);
		if (!answer->grant)
			rc = nonsense(answer, "not enough memory");
	}
	free(fields);
	return rc;
}

static int forward_port(lua_State *L, struct alk_answer *answer)
{
	int whole;
	lua_Integer port = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &whole) : 0;

	if (port < 1 || port > 65535)
		return nonsense(answer, "port must be a number from 1 to 65535");
	answer->port = (uint16_t)port;
	return 0;
}

/* What is wrong with it is said without quoting it: it may hold a password. */
static int forward_via(lua_State *L, struct alk_answer *answer)
{
	struct alk_err err = {""};
	struct alk_proxy_url url;
	int rc = copy_text(L, "via", answer->via, sizeof(answer->via), answer);

	if (rc == 0 && alk_proxy_url_parse(answer->via, &url, &err) < 0)
		rc = nonsense(answer, "via: %s", err.text);
	return rc;
}

static int forward_field(lua_State *L, void *user, const char *key, struct alk_answer *answer)
{
	struct in6_addr addr;

	(void)user;
	if (strcmp(key, "host") == 0)
		return copy_text(L, key, answer->host, sizeof(answer->host), answer);
	if (strcmp(key, "port") == 0)
		return forward_port(L, answer);
	if (strcmp(key, "path") == 0) {
		if (copy_text(L, key, answer->path, sizeof(answer->path), answer) < 0)
			return -EINVAL;
		return answer->path[0] == '/' ? 0 : nonsense(answer, "path must begin with /");
	}
	if (strcmp(key, "via") == 0)
		return forward_via(L, answer);
	if (strcmp(key, "proxy_protocol") == 0) {
		answer->proxy_protocol = lua_toboolean(L, -1);
		return lua_isboolean(L, -1)
			       ? 0
			       : nonsense(answer, "proxy_protocol must be true or false");
	}
	if (strcmp(key, "bind") != 0)
		return nonsense(answer, "unknown key in the forward: %s", key);
	if (copy_text(L, key, answer->bind, sizeof(answer->bind), answer) < 0)
		return -EINVAL;
	if (inet_pton(AF_INET, answer->bind, &addr) != 1 &&
	    inet_pton(AF_INET6, answer->bind, &addr) != 1)
		return nonsense(answer, "bind must be an address");
	return 0;
}

/* A unix socket that is asked for is never a default: the script has to name it, or another
 * destination, of which the question has no part. */
static int read_forward(lua_State *L, int index, const struct alk_ask *ask,
			struct alk_answer *answer)
{
	const char *host;

	if (!lua_isnil(L, index) && !lua_istable(L, index))
		return nonsense(answer, "the forward is a %s, not a table",
				luaL_typename(L, index));
	if (lua_istable(L, index) && table_each(L, index, forward_field, NULL, answer) < 0)
		return -EINVAL;
	if (answer->path[0] && (answer->host[0] || answer->port || answer->bind[0] ||
				answer->via[0] || answer->proxy_protocol))
		return nonsense(answer, "path goes with no other key");
	if (ask->to->path[0] && !answer->path[0] && !(answer->host[0] && answer->port))
		return nonsense(answer,
				"a unix socket must be named by the answer, or a host and a port");
	host = answer->host[0] ? answer->host : ask->to->host;
	if (!answer->path[0] && alk_destination_reserved(host))
		return nonsense(answer, "a reserved destination cannot be forwarded");
	return 0;
}

static int listen_field(lua_State *L, void *user, const char *key, struct alk_answer *answer)
{
	if (strcmp(key, "host") != 0 && strcmp(key, "port") != 0 && strcmp(key, "path") != 0)
		return nonsense(answer, "unknown key in the listener: %s", key);
	return forward_field(L, user, key, answer);
}

static bool host_is_bindable(const char *host)
{
	struct in6_addr addr;

	return strcmp(host, "localhost") == 0 || strcmp(host, "*") == 0 ||
	       inet_pton(AF_INET, host, &addr) == 1 || inet_pton(AF_INET6, host, &addr) == 1;
}

/* A unix socket is never a default: the script has to name it. */
static int read_listen(lua_State *L, int index, const struct alk_ask *ask,
		       struct alk_answer *answer)
{
	if (!lua_isnil(L, index) && !lua_istable(L, index))
		return nonsense(answer, "the listener is a %s, not a table",
				luaL_typename(L, index));
	if (lua_istable(L, index) && table_each(L, index, listen_field, NULL, answer) < 0)
		return -EINVAL;
	if (answer->path[0] && (answer->host[0] || answer->port))
		return nonsense(answer, "path goes with no other key");
	if (answer->host[0] && !host_is_bindable(answer->host))
		return nonsense(answer, "host must be an address, \"localhost\" or \"*\"");
	if (ask->to->path[0] && !answer->path[0] && !answer->host[0])
		return nonsense(answer, "a unix socket must be named by the answer");
	return 0;
}

static int read_service(lua_State *L, int index, struct alk_answer *answer)
{
	const char *name = text_at(L, index, sizeof(answer->service) - 1);

	if (!name || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != strlen(name))
		return nonsense(answer, "the service must be a name of 1 to %zu of a-z 0-9 _ -",
				sizeof(answer->service) - 1);
	snprintf(answer->service, sizeof(answer->service), "%s", name);
	return 0;
}

/* The peer is told, as JSON too: cut between two characters, and what is no UTF-8 is escaped. */
static void reason_put(struct alk_answer *answer, const char *text)
{
	size_t len = strlen(text), most = sizeof(answer->reason) - 1;

	if (!alk_text_utf8(text, len)) {
		alk_text_escape(text, len, answer->reason, sizeof(answer->reason));
		return;
	}
	if (len > most)
		for (len = most; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80;)
			len--;
	memcpy(answer->reason, text, len);
	answer->reason[len] = '\0';
}

static int read_deny(lua_State *L, int index, struct alk_answer *answer)
{
	if (lua_isnil(L, index))
		return 0;
	if (lua_type(L, index) != LUA_TSTRING)
		return nonsense(answer, "the reason is a %s, not a text", luaL_typename(L, index));
	reason_put(answer, lua_tostring(L, index));
	return 0;
}

static bool word_allowed(enum alk_question question, const char *word)
{
	static const char *const words[ALK_QUESTION_COUNT] = {
#define X(id_, name_, words_) [ALK_QUESTION_##id_] = words_,
		ALK_QUESTIONS(X)
#undef X
	};
	const char *p = words[question];
	size_t len = strlen(word), n;

	for (;; p += n + 1) {
		n = strcspn(p, "|");
		if (len > 0 && n == len && memcmp(p, word, n) == 0)
			return true;
		if (p[n] == '\0')
			return false;
	}
}

/* Names the word only if it looks like one: it may as well be a destination, which is never
 * logged. */
static int wrong_word(lua_State *L, int index, struct alk_answer *answer)
{
	const char *word = text_at(L, index, 16);

	if (lua_type(L, index) != LUA_TSTRING)
		return nonsense(answer, "the answer is a %s, not a word", luaL_typename(L, index));
	if (!word || strspn(word, "abcdefghijklmnopqrstuvwxyz_") != strlen(word))
		return nonsense(answer, "the answer is not one of the words");
	return nonsense(answer, "\"%s\" is not one of the words", word);
}

static int verdict_of(const char *word, enum alk_verdict *verdict)
{
#define X(id_, word_)                                                                              \
	if (strcmp(word, (word_)) == 0) {                                                          \
		*verdict = ALK_VERDICT_##id_;                                                      \
		return 0;                                                                          \
	}
	ALK_VERDICTS(X)
#undef X
	return -EINVAL;
}

static int read_rest(lua_State *L, int word, enum alk_verdict verdict, const struct alk_ask *ask,
		     struct alk_answer *answer)
{
	int second = word + 1;

	if (!lua_isnil(L, word + 2))
		return nonsense(answer, "more values than \"%s\" has", alk_verdict_str(verdict));
	switch (verdict) {
	case ALK_VERDICT_DENY:
		return read_deny(L, second, answer);
	case ALK_VERDICT_FORWARD:
		return read_forward(L, second, ask, answer);
	case ALK_VERDICT_SERVICE:
		return read_service(L, second, answer);
	case ALK_VERDICT_ALLOW:
		if (ask->question == ALK_QUESTION_AUTH)
			return read_identity(L, second, ask, answer);
		if (ask->question == ALK_QUESTION_LISTEN)
			return read_listen(L, second, ask, answer);
		break;
	case ALK_VERDICT_PASS:
		break;
	}
	if (!lua_isnil(L, second))
		return nonsense(answer, "more values than \"%s\" has", alk_verdict_str(verdict));
	return 0;
}

/* `nil, code [, message]` is an error of the operation's; anything else is its output. */
static void read_output(lua_State *co, int n, struct alk_answer *answer)
{
	const char *why = "", *code, *message;
	int first = lua_gettop(co) - n + 1;

	if (n > 3 || (n > 1 && !lua_isnil(co, first))) {
		nonsense(answer, "a handler returns one value, or nil, code, message");
		return;
	}
	if (n > 1) {
		code = text_at(co, first + 1, sizeof(answer->code) - 1);
		message = n > 2 ? text_at(co, first + 2, sizeof(answer->reason) - 1) : "";
		if (!code || !message)
			nonsense(answer,
				 "code and message are UTF-8 texts of at most %zu and %zu bytes",
				 sizeof(answer->code) - 1, sizeof(answer->reason) - 1);
		else {
			snprintf(answer->code, sizeof(answer->code), "%s", code);
			snprintf(answer->reason, sizeof(answer->reason), "%s", message);
		}
		return;
	}
	answer->output = n > 0 ? alk_policy_json_take(co, first, &why) : json_null();
	if (!answer->output)
		nonsense(answer, "the output is no JSON: %s", why);
}

void alk_answer_read(lua_State *co, int n, const struct alk_ask *ask, struct alk_answer *answer)
{
	enum alk_verdict verdict = ALK_VERDICT_DENY;
	const char *text;
	char reason[sizeof(answer->reason)];
	int word;

	if (!lua_checkstack(co, 16)) {
		nonsense(answer, "not enough memory");
		return;
	}
	if (ask->question == ALK_QUESTION_CLOSE || ask->question == ALK_QUESTION_EVENT) {
		if (n > 0 && !lua_isnil(co, -n))
			nonsense(answer, "%s answers nothing", alk_question_str(ask->question));
		return;
	}
	if (ask->question == ALK_QUESTION_OPERATION) {
		read_output(co, n, answer);
		return;
	}
	if (n > 3) {
		nonsense(answer, "%d values where at most two are expected", n);
		return;
	}
	for (; n < 3; n++)
		lua_pushnil(co);
	word = lua_gettop(co) - 2;
	text = text_at(co, word, 16);
	if (!text || !word_allowed(ask->question, text) || verdict_of(text, &verdict) < 0)
		wrong_word(co, word, answer);
	else if (read_rest(co, word, verdict, ask, answer) == 0)
		answer->verdict = verdict;
	if (!answer->failed)
		return;
	memcpy(reason, answer->reason, sizeof(reason));
	memset(answer, 0, sizeof(*answer));
	memcpy(answer->reason, reason, sizeof(reason));
	answer->failed = true;
}
