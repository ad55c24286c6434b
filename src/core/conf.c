/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

/* --- life ------------------------------------------------------------------------------------- */

static struct alk_option *role_table(enum alk_role role)
{
	unsigned flag = alk_conf_role_flag(role);
	struct alk_option *table;
	size_t n = 0;

	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++)
		n++;
	table = calloc(n + 1, sizeof(*table));
	if (table == NULL)
		return NULL;
	n = 0;
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++)
		if (o->flags & flag)
			table[n++] = *o;
	return table;
}

struct alk_conf *alk_conf_new(enum alk_role role)
{
	struct alk_conf *conf = calloc(1, sizeof(*conf));

	if (conf == NULL)
		return NULL;
	conf->role = role;
	conf->table = role_table(role);
	if (conf->table != NULL)
		conf->values = alk_options_new(conf->table);
	if (conf->values == NULL)
		alk_conf_free(&conf);
	return conf;
}

static void plugin_free(struct alk_conf_plugin *plugin)
{
	free(plugin->name);
	json_decref(plugin->section);
	json_decref(plugin->sent);
	alk_options_free(&plugin->options);
	free(plugin);
}

void alk_conf_forget_files(struct alk_conf *conf)
{
	for (size_t i = 0; i < conf->values->count; i++)
		alk_value_unread(&conf->values->value[i]);
}

void alk_conf_free(struct alk_conf **conf)
{
	if (*conf == NULL)
		return;
	while ((*conf)->plugins != NULL) {
		struct alk_conf_plugin *next = (*conf)->plugins->next;

		plugin_free((*conf)->plugins);
		(*conf)->plugins = next;
	}
	alk_options_free(&(*conf)->values);
	json_decref((*conf)->lines);
	json_decref((*conf)->listen_texts);
	free((*conf)->listen);
	free((*conf)->table);
	free((*conf)->path);
	free((*conf)->dir);
	free(*conf);
	*conf = NULL;
}

struct alk_conf_plugin *alk_conf_plugin_add(struct alk_conf *conf, const char *name)
{
	struct alk_conf_plugin *plugin, **last = &conf->plugins;

	for (; *last != NULL; last = &(*last)->next)
		if (strcmp((*last)->name, name) == 0)
			return *last;
	plugin = calloc(1, sizeof(*plugin));
	if (plugin == NULL)
		return NULL;
	plugin->name = strdup(name);
	if (plugin->name == NULL) {
		free(plugin);
		return NULL;
	}
	*last = plugin;
	return plugin;
}

/* --- unknown names ---------------------------------------------------------------------------- */

bool alk_conf_is_stem(const char *name)
{
	return name[0] >= 'a' && name[0] <= 'z' && strlen(name) < 64 &&
	       name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

/* The plugin in `dir` whose name is nearest. */
static void plugin_nearest(const char *dir, const char *name, unsigned *best, char *nearest,
			   size_t size)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL) {
		size_t len = strlen(entry->d_name);
		char stem[64];
		unsigned distance;

		if (len < 4 || len - 3 >= sizeof(stem) ||
		    strcmp(entry->d_name + len - 3, ".so") != 0)
			continue;
		snprintf(stem, sizeof(stem), "%.*s", (int)(len - 3), entry->d_name);
		distance = alk_text_distance(stem, name);
		if (distance < *best && alk_text_near(distance, strlen(name)) &&
		    alk_conf_is_stem(stem)) {
			*best = distance;
			snprintf(nearest, size, "%s", stem);
		}
	}
	if (d != NULL)
		closedir(d);
}

static int name_fail(struct alk_conf *conf, const char *name, const char *plugin_dir,
		     struct alk_err *err)
{
	const struct alk_option *elsewhere = alk_option_find(alk_conf_options, name);
	unsigned best = UINT_MAX;
	const char *option = alk_option_nearest(conf->table, name, &best);
	char shown[128], nearest[64] = "";

	if (option != NULL)
		snprintf(nearest, sizeof(nearest), "%s", option);
	if (plugin_dir != NULL)
		plugin_nearest(plugin_dir, name, &best, nearest, sizeof(nearest));
	alk_text_escape(name, strlen(name), shown, sizeof(shown));
	if (elsewhere != NULL)
		return alk_err_set(err, -EINVAL,
				   "%s: is an option of \"alknet %s\", not of \"alknet %s\"", shown,
				   elsewhere->flags & ALK_OPT_SERVE ? "serve" : "connect",
				   alk_conf_command(conf->role));
	if (nearest[0] != '\0')
		return alk_err_set(err, -EINVAL, "%s: there is no such option; did you mean %s?",
				   shown, nearest);
	return alk_err_set(err, -EINVAL, "%s: there is no such option, and no plugin of that name",
			   shown);
}

/* A section must be some option table's: the program's plugins stand as files in plugin_dir. */
static int sections_check(struct alk_conf *conf, struct alk_err *err)
{
	const char *dir = alk_options_str(conf->values, "plugin_dir");
	char *path, where[300];

	for (struct alk_conf_plugin *p = conf->plugins; p != NULL; p = p->next) {
		struct stat st;
		int rc;

		if (p->section == NULL || p->options != NULL)
			continue;
		if (asprintf(&path, "%s/%s.so", dir, p->name) < 0)
			return alk_err_set(err, -ENOMEM, "out of memory");
		rc = stat(path, &st);
		free(path);
		if (rc < 0) {
			alk_conf_where(conf, p->name, where, sizeof(where));
			return alk_err_prefix(err, name_fail(conf, p->name, dir, err), "%s", where);
		}
	}
	return 0;
}

/* --- file, environment, flags ----------------------------------------------------------------- */

static int section_keep(struct alk_conf *conf, const char *name, json_t *section,
			struct alk_err *err)
{
	struct alk_conf_plugin *plugin = alk_conf_plugin_add(conf, name);

	if (plugin == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	plugin->section = json_incref(section);
	return 0;
}

static int key_load(struct alk_conf *conf, const char *name, json_t *value, struct alk_err *err)
{
	const struct alk_option *option = alk_option_find(conf->table, name);
	const struct alk_option *secret = alk_option_secret_file(conf->table, name);
	int rc;

	if (option != NULL) {
		rc = strcmp(name, "listen") == 0 ? alk_conf_listen_check(value, err) : 0;
		if (rc == 0)
			rc = alk_options_set_json(conf->values, option, value, conf->path,
						  conf->dir, err);
	} else if (secret != NULL)
		rc = alk_options_set_secret_file(conf->values, secret, value, conf->path, conf->dir,
						 err);
	else if (json_is_object(value) && alk_conf_is_stem(name))
		return section_keep(conf, name, value, err);
	else
		return name_fail(conf, name, NULL, err);
	return rc < 0 ? alk_err_prefix(err, rc, "%s", name) : 0;
}

static int table_load(struct alk_conf *conf, json_t *table, struct alk_err *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(table))
		return alk_err_set(
			err, -EINVAL,
			"%s: the table is a list; options have names: return { key = ... }",
			conf->path);
	json_object_foreach(table, name, value)
	{
		int rc = key_load(conf, name, value, err);
		char where[300];

		if (rc < 0) {
			alk_conf_where(conf, name, where, sizeof(where));
			return alk_err_prefix(err, rc, "%s", where);
		}
	}
	return 0;
}

/* What a value's source is called, so that the file cannot be taken for another one. malloc'd. */
static char *path_of(const char *name)
{
	static const char *const sources[] = {"default", "environment", "flag", "program"};
	char *path;

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
		if (strcmp(name, sources[i]) == 0)
			return asprintf(&path, "./%s", name) < 0 ? NULL : path;
	return strdup(name);
}

int alk_conf_load_text(struct alk_conf *conf, const char *name, const char *text, size_t len,
		       struct alk_err *err)
{
	json_t *table;
	char *copy;
	int rc;

	if (conf->path != NULL)
		return alk_err_set(err, -EINVAL, "only one configuration file can be read");
	table = alk_conf_lua_read(name, text, len, err);
	if (table != NULL)
		conf->lines = alk_conf_lines(text, len);
	if (table == NULL)
		return -EINVAL;
	conf->path = path_of(name);
	copy = strdup(name);
	if (conf->path == NULL || copy == NULL || (conf->dir = strdup(dirname(copy))) == NULL)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	else
		rc = table_load(conf, table, err);
	free(copy);
	json_decref(table);
	return rc;
}

int alk_conf_load_file(struct alk_conf *conf, const char *path, struct alk_err *err)
{
	struct alk_content content;
	int rc = alk_content_read(path, false, &content, err);

	if (rc == 0)
		rc = alk_conf_load_text(conf, path, content.bytes, content.len, err);
	alk_content_deinit(&content);
	return rc;
}

static void given_name(const struct alk_option *option, const char *source, char *out, size_t size)
{
	if (source != NULL && strcmp(source, "flag") == 0) {
		snprintf(out, size, "--%s", option->name);
		for (char *c = out; *c != '\0'; c++)
			*c = *c == '_' ? '-' : *c;
	} else if (source != NULL && strcmp(source, "environment") == 0 && option->env != NULL) {
		snprintf(out, size, "%s", option->env);
	} else if (source != NULL && strcmp(source, "default") != 0 &&
		   strcmp(source, "program") != 0) {
		snprintf(out, size, "%s: %s", source, option->name);
	} else {
		snprintf(out, size, "%s", option->name);
	}
}

void alk_conf_given_as(const struct alk_conf *conf, const char *name, char *out, size_t size)
{
	const struct alk_value *value = alk_options_value(conf->values, name);
	const char *source = value->source;
	char where[300];
	size_t len;

	if (source != NULL && conf->path != NULL && strcmp(source, conf->path) == 0) {
		alk_conf_where(conf, name, where, sizeof(where));
		source = where;
	}
	given_name(alk_option_find(conf->table, name), source, out, size);
	len = strlen(out);
	if (value->secret_file != NULL)
		snprintf(out + len, size - len, "_file");
}

int alk_conf_set(struct alk_conf *conf, const char *name, const char *value, const char *source,
		 struct alk_err *err)
{
	const struct alk_option *option = alk_option_find(conf->table, name);
	char shown[512];
	int rc;

	if (option == NULL)
		return name_fail(conf, name, NULL, err);
	rc = alk_options_set_text(conf->values, option, value, source, err);
	if (rc < 0) {
		given_name(option, source, shown, sizeof(shown));
		alk_err_prefix(err, rc, "%s", shown);
	}
	return rc;
}

int alk_conf_set_content(struct alk_conf *conf, const char *name, const char *bytes, size_t len,
			 const char *source, struct alk_err *err)
{
	const struct alk_option *option = alk_option_find(conf->table, name);
	int rc;

	if (option == NULL)
		return name_fail(conf, name, NULL, err);
	rc = alk_options_set_content(conf->values, option, bytes, len, source, err);
	return rc < 0 ? alk_err_prefix(err, rc, "%s", name) : 0;
}

bool alk_conf_given(const struct alk_conf *conf, const char *name, size_t n)
{
	const struct alk_value *value = alk_options_value(conf->values, name);

	return value != NULL && value->given != NULL && n < value->count &&
	       value->given[n].bytes != NULL;
}

void alk_conf_unset(struct alk_conf *conf, const char *name)
{
	struct alk_value *value = alk_options_value(conf->values, name);

	if (value != NULL)
		alk_value_clear(value);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Defaults that depend on something. */
static int client_defaults(struct alk_conf *conf, struct alk_err *err)
{
	const struct passwd *self = NULL;
	const char *name = getenv("LOGNAME");
	int rc = 0;

	if (alk_options_has(conf->values, "stdio") && !alk_options_has(conf->values, "socks5"))
		rc = alk_conf_set(conf, "socks5", "none", "default", err);
	if (rc < 0 || alk_options_has(conf->values, "user"))
		return rc;
	/* A user that a service manager made for the occasion is in no file, but has a name. */
	self = getpwuid(getuid());
	if (self != NULL)
		name = self->pw_name;
	if (name == NULL || name[0] == '\0')
		return alk_err_set(err, -ENOENT, "uid %u has no name here: give --user NAME",
				   (unsigned)getuid());
	return alk_conf_set(conf, "user", name, "default", err);
}

static int transport_check(const struct alk_conf *conf, struct alk_err *err)
{
	char given[512];

	if (alk_conf_is_stem(alk_options_str(conf->values, "transport")))
		return 0;
	alk_conf_given_as(conf, "transport", given, sizeof(given));
	return alk_err_set(err, -EINVAL,
			   "%s: must be the name of a plugin: small letters, digits and _", given);
}

int alk_conf_finish(struct alk_conf *conf, struct alk_err *err)
{
	int rc = 0;

	if (conf->role == ALK_ROLE_CLIENT)
		rc = client_defaults(conf, err);
	if (rc == 0)
		rc = alk_options_defaults(conf->values, err);
	if (rc == 0)
		rc = sections_check(conf, err);
	if (rc == 0)
		rc = transport_check(conf, err);
	if (rc == 0 && conf->role != ALK_ROLE_CLIENT)
		rc = alk_conf_listen_build(conf, err);
	return rc == 0 ? alk_conf_cross_check(conf, err) : rc;
}

int alk_conf_read_files(struct alk_conf *conf, struct alk_err *err)
{
	const char *failed;
	char given[512];
	int rc = alk_options_read_files(conf->values, &failed, err);

	if (rc == 0)
		return alk_conf_proxy_check(conf, err);
	alk_conf_given_as(conf, failed, given, sizeof(given));
	return alk_err_prefix(err, rc, "%s", given);
}

const struct alk_options *alk_conf_values(const struct alk_conf *conf)
{
	return conf->values;
}

const char *alk_conf_file(const struct alk_conf *conf, const char *name, size_t n, size_t *len)
{
	return alk_options_file(conf->values, name, n, len);
}

const char *alk_conf_source(const struct alk_conf *conf, const char *name)
{
	const struct alk_value *value = alk_options_value(conf->values, name);

	return value != NULL ? value->source : NULL;
}

bool alk_conf_has_section(const struct alk_conf *conf, const char *name)
{
	for (const struct alk_conf_plugin *p = conf->plugins; p != NULL; p = p->next)
		if (strcmp(p->name, name) == 0)
			return p->section != NULL;
	return false;
}

/* --- plugins ---------------------------------------------------------------------------------- */

static int section_key(struct alk_conf *conf, const struct alk_plugin *plugin,
		       struct alk_options *options, const char *name, const json_t *value,
		       struct alk_err *err)
{
	const struct alk_option *option = alk_option_find(plugin->options, name);
	const struct alk_option *secret = alk_option_secret_file(plugin->options, name);
	unsigned best = UINT_MAX;
	const char *nearest;
	char shown[128];
	int rc;

	if (option == NULL && secret == NULL) {
		nearest = alk_option_nearest(plugin->options, name, &best);
		alk_text_escape(name, strlen(name), shown, sizeof(shown));
		return alk_err_set(err, -EINVAL, "%s.%s: the plugin has no such option%s%s%s%s%s",
				   plugin->name, shown, nearest != NULL ? "; did you mean " : "",
				   nearest != NULL ? plugin->name : "", nearest != NULL ? "." : "",
				   nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
	}
	if (option != NULL)
		rc = alk_options_set_json(options, option, value, conf->path, conf->dir, err);
	else
		rc = alk_options_set_secret_file(options, secret, value, conf->path, conf->dir,
						 err);
	return rc < 0 ? alk_err_prefix(err, rc, "%s.%s", plugin->name, name) : 0;
}

static int section_load(struct alk_conf *conf, const struct alk_plugin *plugin,
			struct alk_conf_plugin *entry, struct alk_options *options,
			struct alk_err *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(entry->section, name, value)
	{
		int rc = section_key(conf, plugin, options, name, value, err);
		char key[160], where[300];

		if (rc < 0) {
			snprintf(key, sizeof(key), "%s.%s", plugin->name, name);
			alk_conf_where(conf, key, where, sizeof(where));
			return alk_err_prefix(err, rc, "%s", where);
		}
	}
	return 0;
}

const struct alk_options *alk_conf_plugin(struct alk_conf *conf, const struct alk_plugin *plugin,
					  struct alk_err *err)
{
	struct alk_conf_plugin *entry = alk_conf_plugin_add(conf, plugin->name);
	struct alk_options *options;
	char key[160], where[300];
	const char *failed;
	int rc = 0;

	if (entry != NULL && entry->options != NULL)
		return entry->options;
	options = alk_options_new(plugin->options);
	if (entry == NULL || options == NULL) {
		alk_options_free(&options);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	if (entry->sent != NULL)
		rc = alk_options_decode(options, entry->sent, err);
	else if (entry->section != NULL)
		rc = section_load(conf, plugin, entry, options, err);
	if (rc == 0 && entry->sent == NULL)
		rc = alk_conf_pass(conf, plugin->name, options, err);
	if (rc == 0)
		rc = alk_options_defaults(options, err);
	if (rc == 0) {
		rc = alk_options_read_files(options, &failed, err);
		if (rc < 0) {
			snprintf(key, sizeof(key), "%s.%s", plugin->name, failed);
			alk_conf_where(conf, key, where, sizeof(where));
			alk_err_prefix(err, rc, "%s: %s", where, key);
		}
	}
	if (rc < 0)
		alk_options_free(&options);
	entry->options = options;
	return options;
}
