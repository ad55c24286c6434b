/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Options of the program that are a plugin's (ALK_OPT_PLUGIN): a flag for what would stand in the
 * plugin's section of the file. The plugin's option has the same name, or the name without the
 * plugin's: --tls-cert is tls.cert. */
#include "conf_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The plugin's option that this one of the program stands for. */
static const struct alk_option *option_meant(const struct alk_option *table, const char *plugin,
					     const char *name)
{
	const struct alk_option *same = alk_option_find(table, name);
	size_t len = strlen(plugin);

	if (same != NULL || strncmp(name, plugin, len) != 0 || name[len] != '_')
		return same;
	return alk_option_find(table, name + len + 1);
}

static bool is_given(const struct alk_conf *conf, size_t i)
{
	const struct alk_value *value = &conf->values->value[i];

	return (conf->values->table[i].flags & ALK_OPT_PLUGIN) != 0 && value->source != NULL &&
	       strcmp(value->source, "default") != 0;
}

/* What the section says counts less than a flag and more than the same file's top. */
static bool is_stronger(const char *source, const char *than)
{
	return than == NULL || strcmp(source, "flag") == 0 || strcmp(source, "environment") == 0;
}

int alk_conf_pass(const struct alk_conf *conf, const char *plugin, struct alk_options *options,
		  struct alk_err *err)
{
	for (size_t i = 0; i < conf->values->count; i++) {
		const struct alk_value *from = &conf->values->value[i];
		const struct alk_option *to;

		if (!is_given(conf, i))
			continue;
		to = option_meant(options->table, plugin, conf->values->table[i].name);
		if (to == NULL ||
		    !is_stronger(from->source, options->value[to - options->table].source))
			continue;
		if (alk_value_copy(&options->value[to - options->table], from) < 0)
			return alk_err_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}

static bool is_taken(const struct alk_conf *conf, const char *name)
{
	for (const struct alk_conf_plugin *p = conf->plugins; p != NULL; p = p->next)
		if (p->options != NULL && option_meant(p->options->table, p->name, name) != NULL)
			return true;
	return false;
}

/* Said, but no more than what holds anyway: a file that --dump-defaults printed. */
static bool is_default(const struct alk_option *option, const struct alk_value *value)
{
	return option->type == ALK_OPT_BOOL && option->fallback != NULL &&
	       value->num == (strcmp(option->fallback, "true") == 0);
}

/* The transports in use, for people. */
static void transports_name(const struct alk_conf *conf, char *text, size_t size)
{
	const char *one = alk_options_str(conf->values, "transport");
	size_t used;

	if (conf->listen_count > 0)
		one = conf->listen[0].transport;
	used = (size_t)snprintf(text, size, "%s", one);
	for (size_t i = 1; i < conf->listen_count && used < size; i++)
		if (strcmp(conf->listen[i].transport, conf->listen[i - 1].transport) != 0)
			used += (size_t)snprintf(text + used, size - used, ", %s",
						 conf->listen[i].transport);
}

int alk_conf_passed(const struct alk_conf *conf, struct alk_err *err)
{
	char given[512], transports[128];

	for (size_t i = 0; i < conf->values->count; i++) {
		const char *name = conf->values->table[i].name;

		if (!is_given(conf, i) || is_taken(conf, name) ||
		    is_default(&conf->values->table[i], &conf->values->value[i]))
			continue;
		alk_conf_given_as(conf, name, given, sizeof(given));
		transports_name(conf, transports, sizeof(transports));
		return alk_err_set(err, -EINVAL,
				   "%s: is not for the transport %s, which is the one in use",
				   given, transports);
	}
	return 0;
}
