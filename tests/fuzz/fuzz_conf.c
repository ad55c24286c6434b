/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The configuration file, and the texts that have a form of their own. What is read is a JSON value
 * that can be written; what is not has a sentence of printable ASCII that names the file. */
#include "conf_private.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static void check_sentence(const struct alk_err *err)
{
	require(err->text[0] != '\0');
	for (const char *c = err->text; *c != '\0'; c++)
		require(*c >= 0x20 && *c < 0x7f);
}

/* Every option takes the value or says why not. */
static void check_values(const json_t *table, enum alk_role role)
{
	struct alk_conf *conf = alk_conf_new(role);
	const char *name;
	json_t *value, *encoded, *shown;

	require(conf != NULL);
	json_object_foreach((json_t *)table, name, value)
	{
		const struct alk_option *option = alk_option_find(conf->table, name);
		struct alk_err err = {""};

		if (option != NULL &&
		    alk_options_set_json(conf->values, option, value, "fuzz.conf", "/", &err) < 0)
			check_sentence(&err);
	}
	encoded = alk_options_encode(conf->values);
	shown = alk_options_show(conf->values);
	require(encoded != NULL && shown != NULL);
	json_decref(encoded);
	json_decref(shown);
	alk_conf_free(&conf);
}

static void check_file(const char *text, size_t n)
{
	struct alk_err err = {""};
	json_t *table = alk_conf_lua_read("fuzz.conf", text, n, &err);
	char *written;

	if (table == NULL) {
		check_sentence(&err);
		require(strncmp(err.text, "fuzz.conf:", 10) == 0);
		return;
	}
	written = json_dumps(table, JSON_COMPACT);
	require(written != NULL);
	free(written);
	check_values(table, ALK_ROLE_SUPERVISOR);
	check_values(table, ALK_ROLE_CLIENT);
	json_decref(table);
}

static void check_texts(const char *text)
{
	struct alk_max_startups startups;
	struct alk_forward forward;
	struct alk_err err = {""};

	if (alk_forward_parse(text, &forward, &err) == 0) {
		require((forward.bind[0] != '\0') != (forward.listen_path[0] == '/'));
		require((forward.host[0] != '\0') != (forward.path[0] == '/'));
	} else {
		check_sentence(&err);
	}
	if (alk_max_startups_parse(text, &startups, &err) == 0)
		require(startups.rate <= 100 && startups.start <= startups.full);
	else
		check_sentence(&err);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *text = malloc(n + 1);

	require(text != NULL);
	memcpy(text, bytes, n);
	text[n] = '\0';
	check_file(text, n);
	check_texts(text);
	free(text);
	return 0;
}
