/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_EMBED_PRIVATE_H
#define ALK_EMBED_PRIVATE_H

/* embed.c has the loop and its thread, embed_server.c and embed_client.c what runs on it. */

#include <alknet/embed.h>
#include "conf.h"
#include "loop_private.h"

struct alk_embed {
	struct alk_loop *loop;
	struct alk_embed_server *servers;
	struct alk_embed_client *clients;
	uint64_t visits;
};

/* A configuration of `role` from what the program gave, its files read. NULL with
 * `err`. The log is the caller's to set up: a reload makes one, too, and may fail later. */
struct alk_conf *embed_conf(enum alk_role role, const char *table,
			    const struct alk_setting *settings, struct alk_err *err);
/* One setting, of an option or of its content. */
int embed_set(struct alk_conf *conf, const struct alk_setting *setting, struct alk_err *err);
/* Is the setting this option's, or its content's? */
bool embed_setting_is(const struct alk_setting *setting, const char *option);

#endif
