/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A configuration beside the one that runs: what a reload reads again, compares and keeps. */
#include "conf_private.h"

#include <errno.h>
#include <string.h>

struct alk_conf *alk_conf_copy(const struct alk_conf *conf, struct alk_err *err)
{
	json_t *encoded = alk_conf_encode(conf);
	struct alk_conf *copy = NULL;

	if (encoded == NULL)
		alk_err_set(err, -ENOMEM, "out of memory");
	else
		copy = alk_conf_decode(encoded, err);
	json_decref(encoded);
	return copy;
}

int alk_conf_read_again(struct alk_conf *conf, const char *name, bool group, struct alk_err *err)
{
	const struct alk_option *one = alk_option_find(conf->table, name);

	for (size_t i = 0; i < conf->values->count; i++) {
		const struct alk_option *option = &conf->table[i];

		if (option->type == ALK_OPT_FILE &&
		    (option == one || (group && strcmp(option->group, one->group) == 0)))
			alk_value_unread(&conf->values->value[i]);
	}
	return alk_conf_read_files(conf, err);
}

int alk_conf_lend(struct alk_conf *conf, const char *name, const char *what, const char *bytes,
		  size_t len, struct alk_err *err)
{
	if (alk_value_lend(alk_options_value(conf->values, name), what, bytes, len) == 0)
		return 0;
	return alk_err_set(err, -ENOMEM, "out of memory");
}

bool alk_conf_lent(const struct alk_conf *conf, const char *name, size_t n)
{
	return n == 0 && alk_options_value(conf->values, name)->lent;
}

bool alk_conf_section_says(const struct alk_conf *conf, const char *name)
{
	for (const struct alk_conf_plugin *p = conf->plugins; p != NULL; p = p->next)
		if (json_object_get(p->section, name) != NULL)
			return true;
	return false;
}

bool alk_conf_same(const struct alk_conf *a, const struct alk_conf *b, const char *name)
{
	return alk_value_same(alk_options_value(a->values, name),
			      alk_options_value(b->values, name));
}

int alk_conf_keep(struct alk_conf *conf, const struct alk_conf *from, const char *name,
		  struct alk_err *err)
{
	if (alk_value_copy(alk_options_value(conf->values, name),
			   alk_options_value(from->values, name)) == 0)
		return 0;
	return alk_err_set(err, -ENOMEM, "out of memory");
}

static const struct alk_conf_plugin *plugin_find(const struct alk_conf *conf, const char *name)
{
	const struct alk_conf_plugin *plugin = conf->plugins;

	while (plugin != NULL && strcmp(plugin->name, name) != 0)
		plugin = plugin->next;
	return plugin;
}

bool alk_conf_plugin_same(const struct alk_conf *a, const struct alk_conf *b, const char *name)
{
	const struct alk_conf_plugin *of_a = plugin_find(a, name), *of_b = plugin_find(b, name);

	if (of_a == NULL || of_b == NULL || of_a->options == NULL || of_b->options == NULL ||
	    of_a->options->count != of_b->options->count)
		return of_a == of_b;
	for (size_t i = 0; i < of_a->options->count; i++)
		if (!alk_value_same(&of_a->options->value[i], &of_b->options->value[i]))
			return false;
	return true;
}

void alk_conf_plugin_forget(struct alk_conf *conf, const char *name)
{
	struct alk_conf_plugin *plugin = conf->plugins;

	while (plugin != NULL && strcmp(plugin->name, name) != 0)
		plugin = plugin->next;
	if (plugin != NULL)
		alk_options_free(&plugin->options);
}
