/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CONF_PRIVATE_H
#define ALK_CONF_PRIVATE_H

/* What conf*.c share: the configuration's inside. Start at conf.h. */

#include "conf.h"
#include "options_private.h"

struct alk_conf_plugin {
	char *name;
	json_t *section;	     /* as it stood in the file, NULL = none */
	struct alk_options *options; /* once it was checked */
	json_t *sent;		     /* checked values that came from the supervisor, or NULL */
	struct alk_conf_plugin *next;
};

struct alk_conf {
	enum alk_role role;
	struct alk_option *table; /* the role's part of alk_conf_options */
	struct alk_options *values;
	struct alk_conf_plugin *plugins;
	char *path, *dir; /* of the file that was loaded */
	json_t *lines;	  /* {"key": line, "plugin.key": line} of that file, NULL = no file */
	struct alk_conf_listen *listen;
	json_t *listen_texts; /* owns the strings of `listen` */
	size_t listen_count;
};

/* Run the file ("return { ... }") and give its table. `name` is what messages call it. NULL with
 * `err`: file:line and why. */
json_t *alk_conf_lua_read(const char *name, const char *text, size_t len, struct alk_err *err);

/* On which lines of a file its keys stand (conf_lines.c). New reference; NULL when out of
 * memory. */
json_t *alk_conf_lines(const char *text, size_t len);
/* Where a key ("KEY", "PLUGIN.KEY"; KEY_file for a secret's) stands, for the beginning of a
 * sentence: "FILE:LINE", or "FILE" where the line is not known. */
void alk_conf_where(const struct alk_conf *conf, const char *key, char *out, size_t size);

const char *alk_conf_lua_version(void);

/* An option as it was given, for the beginning of a sentence: "--max-sessions", "ALKNET_SERVER",
 * "FILE:LINE: max_sessions", or its name when nobody gave it. */
void alk_conf_given_as(const struct alk_conf *conf, const char *name, char *out, size_t size);
/* `proxy`, once more when it was read from its file. */
int alk_conf_proxy_check(const struct alk_conf *conf, struct alk_err *err);
/* What the options say about one another (conf_check.c). */
int alk_conf_cross_check(struct alk_conf *conf, struct alk_err *err);
/* The word for a role in sentences: "serve" or "connect". */
const char *alk_conf_command(enum alk_role role);
/* The flag of a role in struct alk_option. */
unsigned alk_conf_role_flag(enum alk_role role);
/* One value of `listen` as the file has it. */
int alk_conf_listen_check(json_t *listen, struct alk_err *err);
/* conf->listen from the values. */
int alk_conf_listen_build(struct alk_conf *conf, struct alk_err *err);
/* Can this be a plugin's name? */
bool alk_conf_is_stem(const char *name);
/* Give a plugin's options what stands for them among the program's. 0 or -ENOMEM. */
int alk_conf_pass(const struct alk_conf *conf, const char *plugin, struct alk_options *options,
		  struct alk_err *err);
/* The entry of this plugin, made when it is not there; NULL when out of memory. */
struct alk_conf_plugin *alk_conf_plugin_add(struct alk_conf *conf, const char *name);

#endif
