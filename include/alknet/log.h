/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_LOG_H
#define ALKNET_LOG_H

/* The log: one line an event, logfmt or JSON, to stderr, syslog or journald; never blocks.
 *
 *     alk_log(ALK_LOG_INFO, "connection opened", ALK_STR("remote_addr", link->remote_addr),
 *             ALK_STR("transport", link->transport));
 *
 * `msg` and keys are ours (literals); every value may come from a peer and is quoted and escaped,
 * so that it cannot forge a line: bytes outside printable ASCII become \xNN, a value is cut at 256
 * bytes. What goes through a channel, where it goes and how many bytes it is, is never logged
 * (privacy). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

enum alk_log_level {
	ALK_LOG_ERROR,
	ALK_LOG_WARN,
	ALK_LOG_INFO,
	ALK_LOG_DEBUG,
};

enum alk_field_type {
	ALK_FIELD_END, /* ends the list */
	ALK_FIELD_STR,
	ALK_FIELD_INT,
	ALK_FIELD_NUM,
	ALK_FIELD_BOOL,
};

struct alk_field {
	const char *key;
	enum alk_field_type type;
	union {
		const char *str; /* NULL leaves the field out */
		int64_t num;
		double real;
		bool yes;
	} v;
};

#define ALK_STR(key_, value_)                                                                      \
	((struct alk_field){.key = (key_), .type = ALK_FIELD_STR, .v.str = (value_)})
#define ALK_INT(key_, value_)                                                                      \
	((struct alk_field){.key = (key_), .type = ALK_FIELD_INT, .v.num = (value_)})
#define ALK_NUM(key_, value_)                                                                      \
	((struct alk_field){.key = (key_), .type = ALK_FIELD_NUM, .v.real = (value_)})
#define ALK_YES(key_, value_)                                                                      \
	((struct alk_field){.key = (key_), .type = ALK_FIELD_BOOL, .v.yes = (value_)})

#define alk_log(level_, msg_, ...)                                                                 \
	do {                                                                                       \
		if (alk_log_enabled(level_))                                                       \
			alk_log_fields((level_), (msg_),                                           \
				       (const struct alk_field[]){__VA_ARGS__ __VA_OPT__(, ){0}}); \
	} while (0)

/* For alk_log(): would a line of this level be written? Write it: `fields` ends with {0}; all is
 * borrowed for the call. */
ALK_EXPORT bool alk_log_enabled(enum alk_log_level level);
ALK_EXPORT void alk_log_fields(enum alk_log_level level, const char *msg,
			       const struct alk_field *fields);

#endif
