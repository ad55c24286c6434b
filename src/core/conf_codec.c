/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy_url.h"
#include "text.h"

/* --- one table's values, over the control socket: {"name": {"source", "num", "text": [], "file": [hex]}} ---- */

/* Contents may hold any bytes, JSON text may not. */
static json_t *hex_encode(const struct alk_content *content)
{
	static const char digits[] = "0123456789abcdef";
	char *hex = malloc(content->len * 2 + 1);
	json_t *text;

	if (hex == NULL)
		return NULL;
	for (size_t i = 0; i < content->len; i++) {
		hex[i * 2] = digits[(unsigned char)content->bytes[i] >> 4];
		hex[i * 2 + 1] = digits[content->bytes[i] & 15];
	}
	text = json_stringn_nocheck(hex, content->len * 2);
	explicit_bzero(hex, content->len * 2);
	free(hex);
	return text;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int hex_decode(const json_t *text, struct alk_content *content)
{
	const char *hex = json_string_value(text);
	size_t n = hex != NULL ? json_string_length(text) : 1;

	if (n % 2 != 0)
		return -EINVAL;
	content->bytes = malloc(n / 2 + 1);
	if (content->bytes == NULL)
		return -ENOMEM;
	content->len = n / 2;
	content->bytes[n / 2] = '\0';
	for (size_t i = 0; i < n / 2; i++) {
		int high = hex_digit(hex[i * 2]), low = hex_digit(hex[i * 2 + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		content->bytes[i] = (char)(high << 4 | low);
	}
	return 0;
}

static json_t *value_encode(const struct alk_value *value)
{
	json_t *text = json_array(), *file = json_array(), *given = json_array(), *all;
	int rc = 0;

	for (size_t i = 0; i < value->count; i++) {
		rc |= json_array_append_new(text, json_string(value->text[i]));
		if (value->file != NULL)
			rc |= json_array_append_new(file, hex_encode(&value->file[i]));
		if (value->given != NULL)
			rc |= json_array_append_new(given,
						    json_boolean(value->given[i].bytes != NULL));
	}
	all = json_pack("{s:s, s:I, s:o, s:o, s:o, s:b}", "source", value->source, "num",
			(json_int_t)value->num, "text", text, "file", file, "given", given, "lent",
			value->lent);
	if (rc != 0) {
		json_decref(all);
		return NULL;
	}
	return all;
}

json_t *alk_options_encode(const struct alk_options *options)
{
	json_t *all = json_object();

	for (size_t i = 0; i < options->count; i++) {
		if (options->value[i].source == NULL)
			continue;
		if (json_object_set_new(all, options->table[i].name,
					value_encode(&options->value[i])) < 0) {
			json_decref(all);
			return NULL;
		}
	}
	return all;
}

/* What was given stays so: what is read again later is not these. */
static int given_decode(struct alk_value *value, const json_t *given)
{
	json_t *element;
	size_t i;

	if (json_array_size(given) == 0)
		return 0;
	if (json_array_size(given) != value->count || value->file == NULL)
		return -EINVAL;
	value->given = calloc(value->count, sizeof(*value->given));
	if (value->given == NULL)
		return -ENOMEM;
	json_array_foreach(given, i, element)
	{
		if (json_is_true(element) &&
		    alk_content_copy(&value->given[i], &value->file[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int value_decode(struct alk_value *value, const json_t *encoded)
{
	json_t *text, *file, *element;
	const char *source;
	json_int_t num;
	size_t i;

	if (json_unpack((json_t *)encoded, "{s:s, s:I, s:o, s:o}", "source", &source, "num", &num,
			"text", &text, "file", &file) < 0 ||
	    (json_array_size(file) != 0 && json_array_size(file) != json_array_size(text)))
		return -EINVAL;
	value->source = strdup(source);
	value->num = num;
	value->text = calloc(json_array_size(text) + 1, sizeof(*value->text));
	if (json_array_size(file) > 0)
		value->file = calloc(json_array_size(file), sizeof(*value->file));
	if (value->source == NULL || value->text == NULL ||
	    (json_array_size(file) > 0 && value->file == NULL))
		return -ENOMEM;
	json_array_foreach(text, i, element)
	{
		value->text[i] = strdup(json_is_string(element) ? json_string_value(element) : "");
		if (value->text[i] == NULL)
			return -ENOMEM;
		value->count++;
	}
	json_array_foreach(file, i, element)
	{
		int rc = hex_decode(element, &value->file[i]);

		if (rc < 0)
			return rc;
	}
	value->lent = value->file != NULL && json_is_true(json_object_get(encoded, "lent"));
	return given_decode(value, json_object_get(encoded, "given"));
}

int alk_options_decode(struct alk_options *options, const json_t *encoded, struct alk_err *err)
{
	const char *name;
	json_t *element;

	json_object_foreach((json_t *)encoded, name, element)
	{
		struct alk_value *value = alk_options_value(options, name);
		int rc = value == NULL || value->source != NULL ? -EINVAL
								: value_decode(value, element);

		if (rc < 0)
			return alk_err_set(err, rc,
					   "the supervisor sent a value for %s that cannot be used",
					   name);
	}
	return 0;
}

/* --- for people ------------------------------------------------------------------------------- */

static json_t *text_show(const struct alk_option *option, const char *text)
{
	char shown[1024];

	if ((option->flags & ALK_OPT_URL) == 0)
		return json_string(text);
	alk_proxy_url_show(text, shown, sizeof(shown));
	return json_string(shown);
}

static json_t *value_show(const struct alk_option *option, const struct alk_value *value)
{
	json_t *list;

	if (option->flags & ALK_OPT_SECRET)
		return json_string("***");
	if (option->type == ALK_OPT_BOOL)
		return json_boolean(value->num);
	if (value->count == 0 && value->num == -1 && (option->flags & ALK_OPT_AUTO))
		return json_string("auto");
	if (option->type == ALK_OPT_DURATION)
		return json_real((double)value->num / 1000);
	if (option->type == ALK_OPT_INT || option->type == ALK_OPT_SIZE)
		return json_integer(value->num);
	list = json_array();
	for (size_t i = 0; i < value->count; i++)
		json_array_append_new(list,
				      option->type == ALK_OPT_TABLE
					      ? json_loads(value->text[i], JSON_DECODE_ANY, NULL)
					      : text_show(option, value->text[i]));
	if ((option->flags & ALK_OPT_REPEAT) == 0 && json_array_size(list) == 1) {
		json_t *one = json_incref(json_array_get(list, 0));

		json_decref(list);
		return one;
	}
	return list;
}

json_t *alk_options_show(const struct alk_options *options)
{
	json_t *all = json_object();

	for (size_t i = 0; i < options->count; i++)
		if (options->value[i].source != NULL)
			json_object_set_new(all, options->table[i].name,
					    json_pack("{s:o, s:s}", "value",
						      value_show(&options->table[i],
								 &options->value[i]),
						      "source", options->value[i].source));
	return all;
}

/* Which of its texts are secret only the plugin's own table knows, and it is not loaded here. */
static json_t *section_show(const json_t *section, const char *source)
{
	json_t *all = json_object(), *value;
	const char *name;

	json_object_foreach((json_t *)section, name, value)
	{
		bool plain = json_is_number(value) || json_is_boolean(value);

		json_object_set_new(all, name,
				    json_pack("{s:o, s:s}", "value",
					      plain ? json_incref(value) : json_string("***"),
					      "source", source));
	}
	return all;
}

/* "FILE" becomes "FILE:LINE" where the line is known. */
static void show_line(const struct alk_conf *conf, const char *path, json_t *shown)
{
	const char *source = json_string_value(json_object_get(shown, "source"));
	char where[PATH_MAX + 32];

	if (source == NULL || conf->path == NULL || strcmp(source, conf->path) != 0)
		return;
	alk_conf_where(conf, path, where, sizeof(where));
	json_object_set_new(shown, "source", json_string(where));
}

static json_t *show_lines(const struct alk_conf *conf, const char *section, json_t *all)
{
	const char *name;
	json_t *shown;
	char path[160];

	json_object_foreach(all, name, shown)
	{
		snprintf(path, sizeof(path), "%s%s%s", section, section[0] != '\0' ? "." : "",
			 name);
		show_line(conf, path, shown);
	}
	return all;
}

json_t *alk_conf_show(const struct alk_conf *conf)
{
	json_t *all = show_lines(conf, "", alk_options_show(conf->values));

	for (const struct alk_conf_plugin *p = conf->plugins; p != NULL; p = p->next)
		if (p->options != NULL)
			json_object_set_new(all, p->name,
					    show_lines(conf, p->name,
						       alk_options_show(p->options)));
		else if (p->section != NULL)
			json_object_set_new(all, p->name,
					    show_lines(conf, p->name,
						       section_show(p->section, conf->path)));
	return all;
}

/* --- all of a configuration ------------------------------------------------------------------- */

static json_t *plugins_encode(const struct alk_conf *conf)
{
	json_t *all = json_object();

	for (const struct alk_conf_plugin *p = conf->plugins; p != NULL; p = p->next) {
		json_t *one = json_object();

		if (p->section != NULL)
			json_object_set(one, "section", p->section);
		if (p->options != NULL)
			json_object_set_new(one, "values", alk_options_encode(p->options));
		else if (p->sent != NULL)
			json_object_set(one, "values", p->sent);
		json_object_set_new(all, p->name, one);
	}
	return all;
}

json_t *alk_conf_encode(const struct alk_conf *conf)
{
	return json_pack("{s:i, s:s*, s:s*, s:O*, s:o, s:o}", "role", (int)conf->role, "path",
			 conf->path, "dir", conf->dir, "lines", conf->lines, "values",
			 alk_options_encode(conf->values), "plugins", plugins_encode(conf));
}

static int plugins_decode(struct alk_conf *conf, json_t *plugins)
{
	const char *name;
	json_t *one;

	json_object_foreach(plugins, name, one)
	{
		struct alk_conf_plugin *plugin = alk_conf_plugin_add(conf, name);

		if (plugin == NULL)
			return -ENOMEM;
		plugin->section = json_incref(json_object_get(one, "section"));
		plugin->sent = json_incref(json_object_get(one, "values"));
	}
	return 0;
}

struct alk_conf *alk_conf_decode(const json_t *encoded, struct alk_err *err)
{
	const char *path = NULL, *dir = NULL;
	json_t *values, *plugins;
	struct alk_conf *conf;
	int role, rc;

	if (json_unpack((json_t *)encoded, "{s:i, s?s, s?s, s:o, s:o}", "role", &role, "path",
			&path, "dir", &dir, "values", &values, "plugins", &plugins) < 0) {
		alk_err_set(err, -EINVAL,
			    "the configuration that the supervisor sent cannot be read");
		return NULL;
	}
	conf = alk_conf_new((enum alk_role)role);
	if (conf == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	rc = alk_options_decode(conf->values, values, err);
	conf->lines = json_incref(json_object_get(encoded, "lines"));
	if (rc == 0 && path != NULL && dir != NULL &&
	    ((conf->path = strdup(path)) == NULL || (conf->dir = strdup(dir)) == NULL))
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc == 0 && plugins_decode(conf, plugins) < 0)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc == 0 && conf->role != ALK_ROLE_CLIENT)
		rc = alk_conf_listen_build(conf, err);
	if (rc < 0)
		alk_conf_free(&conf);
	return conf;
}

/* --- the defaults, as a file ------------------------------------------------------------------ */

static void default_print(FILE *out, const struct alk_option *option, bool comment)
{
	bool number = option->type == ALK_OPT_INT || option->type == ALK_OPT_DURATION ||
		      option->type == ALK_OPT_SIZE;
	const char *value = option->fallback;
	int64_t n;

	fprintf(out, "\n\t-- %s\n\t%s%s = ", option->help, comment || value == NULL ? "-- " : "",
		option->name);
	if (value == NULL)
		fprintf(out, "\"%s\",\n", option->arg != NULL ? option->arg : "");
	else
		fprintf(out,
			option->type == ALK_OPT_BOOL || (number && alk_text_int(value, &n) == 0)
				? "%s,\n"
				: "\"%s\",\n",
			value);
}

static void section_print(FILE *out, const char *title, unsigned want, unsigned without,
			  bool comment)
{
	fprintf(out, "\n\t-- === %s ===\n", title);
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++)
		if ((o->flags & want) == want && !(o->flags & without))
			default_print(out, o, comment);
}

char *alk_conf_dump_defaults(bool connect)
{
	unsigned both = ALK_OPT_SERVE | ALK_OPT_CONNECT;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	fprintf(out,
		"-- alknet.conf: every option with its default. Options that have none are commented out.\n"
		"-- Each is also a flag, with dashes for underscores; a flag counts more than this file.\n"
		"-- A secret may stand in a file, which NAME_file names.\n"
		"return {\n");
	section_print(out, "alknet serve and alknet connect", both, 0, false);
	if (connect) {
		section_print(out, "alknet connect", ALK_OPT_CONNECT, ALK_OPT_SERVE, false);
	} else {
		section_print(out, "alknet serve", ALK_OPT_SERVE, ALK_OPT_CONNECT, false);
		section_print(out, "alknet connect (in a file of its own)", ALK_OPT_CONNECT,
			      ALK_OPT_SERVE, true);
	}
	fprintf(out, "}\n");
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
