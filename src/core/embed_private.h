/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_EMBED_PRIVATE_H
#define ALK_EMBED_PRIVATE_H

/* embed.c has the loop and its thread, embed_server.c and embed_client.c what runs on it. */

#include <alknet/embed.h>
#include "conf.h"
#include "loop_private.h"

struct alk_embed {
	struct alk_loop *loop;
	struct alk_embed_server *server; /* NULL = none */
	struct alk_embed_client *clients;
};

/* A configuration of `role` from what the program gave, its files read and the log set up. NULL with `err`. */
struct alk_conf *embed_conf(enum alk_role role, const char *table,
			    const struct alk_setting *settings, struct alk_err *err);
/* The server ended by itself. */
void embed_server_ended(struct alk_embed_server *server);

#endif
