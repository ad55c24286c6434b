/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the admin socket shows of what runs: the configuration and the keys. */
#include "supervisor_private.h"

#include <stdio.h>
#include <string.h>

#include "cert_digest.h"
#include "keys.h"
#include "json_text.h"

/* Keys */

/* NAME, or NAME="VALUE"; what has no room is left out. */
static void add_text(char *text, size_t size, const char *name, const char *value)
{
	size_t len = strlen(text);

	if (len + 1 >= size)
		return;
	if (len > 0)
		text[len++] = ',';
	if (value != NULL)
		snprintf(text + len, size - len, "%s=\"%s\"", name, value);
	else
		snprintf(text + len, size - len, "%s", name);
}

/* The options as they stand before a key. */
static void options_text(const struct alk_key_options *o, char *text, size_t size)
{
	char expires[32];

	text[0] = '\0';
	if (o->cert_authority)
		add_text(text, size, "cert-authority", NULL);
	if (o->no_forwarding)
		add_text(text, size, "no-port-forwarding", NULL);
	if (o->principals != NULL)
		add_text(text, size, "principals", o->principals);
	if (o->from != NULL)
		add_text(text, size, "from", o->from);
	for (size_t i = 0; i < o->n_open; i++)
		add_text(text, size, "permitopen", o->permit_open[i]);
	for (size_t i = 0; i < o->n_listen; i++)
		add_text(text, size, "permitlisten", o->permit_listen[i]);
	if (o->expires != 0) {
		snprintf(expires, sizeof(expires), "%lld", (long long)o->expires);
		add_text(text, size, "expires", expires);
	}
}

static json_t *key_show(const struct alk_key_entry *entry, const char *kind, const char *file)
{
	char fingerprint[ALK_KEY_FINGERPRINT_SIZE] = "", options[512];

	if (alk_key_blob_fingerprint(entry->blob, entry->blob_len, fingerprint) < 0)
		return NULL;
	options_text(&entry->options, options, sizeof(options));
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:i}", "fingerprint", fingerprint, "type",
			 entry->type, "list", kind, "options", alk_json_text(options), "comment",
			 alk_json_text(entry->comment), "file", file, "line", (int)entry->line);
}

static void keys_add(json_t *list, struct alk_keys *keys, const char *kind, const char *file)
{
	for (size_t i = 0; keys != NULL && i < keys->count; i++)
		json_array_append_new(list, key_show(&keys->entry[i], kind, file));
	alk_keys_free(&keys);
}

/* Lines that are refused were logged when a worker read them. */
static void on_bad_line(void *user, const char *name, unsigned line, const char *why)
{
	(void)user, (void)name, (void)line, (void)why;
}

json_t *supervisor_show_keys(const struct alk_supervisor *sup)
{
	json_t *list = json_array();
	char types[160] = "";
	const char *type, *text;
	size_t len;

	for (size_t i = 0; (type = alk_options_nth(sup->values, "key_types", i)) != NULL; i++)
		add_text(types, sizeof(types), strncmp(type, "rsa-", 4) == 0 ? "ssh-rsa" : type,
			 NULL);
	text = alk_conf_file(sup->conf, "authorized_keys", 0, &len);
	if (text != NULL) {
		const char *file = alk_options_str(sup->values, "authorized_keys");

		keys_add(list, alk_keys_parse(file, text, len, types, on_bad_line, NULL),
			 "authorized_keys", file);
	}
	for (size_t i = 0; (text = alk_conf_file(sup->conf, "cert_authority", i, &len)) != NULL;
	     i++) {
		const char *file = alk_options_nth(sup->values, "cert_authority", i);

		keys_add(list, alk_keys_parse_authorities(file, text, len, on_bad_line, NULL),
			 "cert_authority", file);
	}
	return json_pack("{s:o}", "keys", list);
}

/* The configuration */

static bool is_value(const json_t *shown)
{
	return json_object_get(shown, "value") != NULL && json_object_get(shown, "source") != NULL;
}

static void option_add(json_t *list, const char *name, json_t *shown)
{
	json_array_append_new(list, json_pack("{s:s, s:O, s:O}", "option", name, "value",
					      json_object_get(shown, "value"), "source",
					      json_object_get(shown, "source")));
}

json_t *supervisor_show_conf(const struct alk_supervisor *sup, const char *only)
{
	json_t *all = alk_conf_show(sup->conf), *list = json_array(), *one, *inner;
	const char *name, *key;
	char path[160];

	json_object_foreach(all, name, one)
	{
		if (is_value(one)) {
			if (only == NULL || strcmp(only, name) == 0)
				option_add(list, name, one);
			continue;
		}
		json_object_foreach(one, key, inner)
		{
			snprintf(path, sizeof(path), "%s.%s", name, key);
			if (only == NULL || strcmp(only, path) == 0 || strcmp(only, name) == 0)
				option_add(list, path, inner);
		}
	}
	json_decref(all);
	return json_pack("{s:o}", "options", list);
}
