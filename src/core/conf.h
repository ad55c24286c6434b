/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CONF_H
#define ALK_CONF_H

/* The configuration of one process: what the file, the environment and the flags say, checked
 * against the options table of the program (conf_options.c) and of each plugin.
 *
 *   supervisor/client   alk_conf_new → set (flags) → load_file → set (environment) → finish →
 *                       read_files
 *   worker              alk_conf_decode of what the supervisor encoded: it reads no file itself
 *
 * Order of precedence: flag, environment, file, default, in whatever order they are read; each
 * value remembers its source. The file is one Lua table ("return { ... }"), read by conf_lua.c in
 * an empty environment with a budget (no libraries, 10^6 instructions, 8 MiB, text only); nothing
 * in it can run later.
 *
 * Start here if you add an option: add a line to conf_options.c, nothing else. */

#include <jansson.h>
#include <alknet/options.h>
#include <alknet/plugin.h>

struct alk_conf;

extern const struct alk_option
	alk_conf_options[]; /* serve's and connect's, ends with ALK_OPT_END */

/* `role`: ALK_ROLE_SUPERVISOR for serve, ALK_ROLE_CLIENT for connect. */
struct alk_conf *alk_conf_new(enum alk_role role);
void alk_conf_free(struct alk_conf **conf);
/* Read FILE. -EINVAL with file:line, the key's path and the nearest known key. */
int alk_conf_load_file(struct alk_conf *conf, const char *path, struct alk_err *err);
/* The same for text that was read already; `name` is for sentences, its directory for relative
 * paths. */
int alk_conf_load_text(struct alk_conf *conf, const char *name, const char *text, size_t len,
		       struct alk_err *err);
/* One value as text. `source` ("flag", "environment") is borrowed for life. */
int alk_conf_set(struct alk_conf *conf, const char *name, const char *value, const char *source,
		 struct alk_err *err);
/* The content of a FILE option itself, instead of a path: nothing is read for it, at a reload
 * neither. */
int alk_conf_set_content(struct alk_conf *conf, const char *name, const char *bytes, size_t len,
			 const char *source, struct alk_err *err);
/* Was the n-th content of a FILE option given, so that its path is none? */
bool alk_conf_given(const struct alk_conf *conf, const char *name, size_t n);
/* As if nobody had set it. */
void alk_conf_unset(struct alk_conf *conf, const char *name);
/* Defaults, ranges, and what one option says about another (a certificate without its key,
 * --stealth without tls, serve with nobody to let in, ...). */
int alk_conf_finish(struct alk_conf *conf, struct alk_err *err);
/* Read every ALK_OPT_FILE's content (regular file, no more than 1 MiB, owner and mode checked where
 * PRIVATE), and turn NAME_file secrets into NAME. */
int alk_conf_read_files(struct alk_conf *conf, struct alk_err *err);
/* Wipe what was read, keys among it, where nobody will look at it any more. The plugins' own
 * stay. */
void alk_conf_forget_files(struct alk_conf *conf);

/* The values of the program's own table, valid for the life of `conf`. */
const struct alk_options *alk_conf_values(const struct alk_conf *conf);
/* Content of a FILE option (n-th for REPEAT), NUL-terminated besides; NULL when unset. */
const char *alk_conf_file(const struct alk_conf *conf, const char *name, size_t n, size_t *len);
/* Check a plugin's section against its table; borrowed values, valid for the life of `conf`. NULL
 * with `err`. */
const struct alk_options *alk_conf_plugin(struct alk_conf *conf, const struct alk_plugin *plugin,
					  struct alk_err *err);
/* The plugin goes, and its table with it: forget the values that were checked against it. */
void alk_conf_plugin_forget(struct alk_conf *conf, const char *name);
/* Do two configurations, for both of which the plugin was loaded, give it the same options? */
bool alk_conf_plugin_same(const struct alk_conf *a, const struct alk_conf *b, const char *name);
/* When the transports in use are loaded: -EINVAL, with `err` naming it, when an option was given
 * that is for a plugin and none of them has it. */
int alk_conf_passed(const struct alk_conf *conf, struct alk_err *err);
/* Does the file have a section for this plugin? */
bool alk_conf_has_section(const struct alk_conf *conf, const char *name);
/* The same, contents of files too, with nothing in common. NULL with `err`. */
struct alk_conf *alk_conf_copy(const struct alk_conf *conf, struct alk_err *err);
/* Read the file of a FILE option again, or (`group`) those of all that stand with it in --help. On
 * failure `conf` is good for nothing but alk_conf_free(). */
int alk_conf_read_again(struct alk_conf *conf, const char *name, bool group, struct alk_err *err);
/* Give a FILE option a first content that is in no file, in the place of the one that it was given
 * last; NULL takes it away, which must come before alk_conf_read_again(). Copies. */
int alk_conf_lend(struct alk_conf *conf, const char *name, const char *what, const char *bytes,
		  size_t len, struct alk_err *err);
/* Is the n-th content of a FILE option such a one? */
bool alk_conf_lent(const struct alk_conf *conf, const char *name, size_t n);
/* Has a plugin's section an option of this name? */
bool alk_conf_section_says(const struct alk_conf *conf, const char *name);
/* Has an option the same value in both? */
bool alk_conf_same(const struct alk_conf *a, const struct alk_conf *b, const char *name);
/* Take over the value that `from` has. */
int alk_conf_keep(struct alk_conf *conf, const struct alk_conf *from, const char *name,
		  struct alk_err *err);
/* Where the value of an option comes from: "flag", "environment", a file's path, "default"; NULL
 * when unset. */
const char *alk_conf_source(const struct alk_conf *conf, const char *name);
/* Listeners: `listen` and `transport` as one list, defaults applied (0.0.0.0:22 and [::]:22). */
struct alk_conf_listen {
	const char *transport;
	const char *address;
	/* Connections begin with a PROXY header, and come from these networks: one text or a list
	 * of checked ones (cidr.h). NULL: they have none. */
	const json_t *proxy_from;
	bool fallback; /* nothing was said */
};
/* Gives how many there are; a server takes no more than ALK_LISTENERS_MAX. */
#define ALK_LISTENERS_MAX 64
size_t alk_conf_listeners(const struct alk_conf *conf, struct alk_conf_listen *out, size_t max);
/* The same of one listener alone; NULL, too, when there is none of that name. */
const json_t *alk_conf_proxy_from(const struct alk_conf *conf, const char *transport,
				  const char *address);

/* max_startups, "START:RATE:FULL": from START start-ups in flight a new one is dropped with RATE
 * percent, which grows to all at FULL. */
struct alk_max_startups {
	unsigned start, rate, full;
};
int alk_max_startups_parse(const char *text, struct alk_max_startups *out, struct alk_err *err);

/* What `forward` says: [bind:]port:host:hostport, [bind:]port:/unix/path, /unix/path:host:hostport
 * or /unix/path:/unix/path; IPv6 in brackets. Without bind it is 127.0.0.1; a bind of * or nothing
 * (":80:...") is every address. */
struct alk_forward {
	char bind[256];	       /* no brackets; "*" is every address; "" when listen_path is set */
	uint16_t port;	       /* 0 = the system chooses */
	char listen_path[108]; /* unix socket to listen on, or "" */
	char host[256];	       /* no brackets; "" when path is set */
	uint16_t host_port;
	char path[108]; /* unix socket at the server, or "" */
};
int alk_forward_parse(const char *spec, struct alk_forward *out, struct alk_err *err);
/* The same for `remote_forward`, where `bind` and `port` are at the server: no unix socket to
 * listen on, no reserved destination. `bind` is as SSH asks for it: "" is every address, without
 * one it is localhost. */
int alk_forward_parse_remote(const char *spec, struct alk_forward *out, struct alk_err *err);

/* Everything, file contents included, for a worker; secrets too, so it goes over the control socket
 * alone. New reference. */
json_t *alk_conf_encode(const struct alk_conf *conf);
struct alk_conf *alk_conf_decode(const json_t *encoded, struct alk_err *err);
/* {"name": {"value": ..., "source": ...}}, secrets as "***". New reference. */
json_t *alk_conf_show(const struct alk_conf *conf);
/* The defaults as an alknet.conf, a server's or (`connect`) a client's, with each option's help as a
 * comment; malloc'd text. */
char *alk_conf_dump_defaults(bool connect);

#endif
