/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WORKER_PLUGIN_H
#define ALK_WORKER_PLUGIN_H

/* Plugins of a worker at run time: what supervisor_plugin.c asks of each. A change has two steps, so that all
 * workers make it or none:
 *
 *   load    open, check and init it; it gets no channels      commit   now it does
 *   unload  nobody uses it: it gets no new channels           abort    all is as before
 *           (somebody does: an error that says who)
 */

#include <jansson.h>
#include "loader.h"
#include "route.h"
#include "server.h"
#include "worker_local.h"

struct alk_worker_plugins {
	struct alk_loader *loader;
	struct alk_route *route;
	struct alk_server_host *host;
	const struct alk_worker_locals *locals;
	char prepared[32]; /* the plugin whose change waits for its second step, or "" */
	bool forbidden;	   /* what it was before */
};

/* {name, load:bool, step: "prepare" | "commit" | "abort"}. {"found": is it loaded before the
 * step?}, a new reference, or NULL with `err`. */
json_t *alk_worker_plugin_step(struct alk_worker_plugins *p, const json_t *params,
			       struct alk_err *err);
/* alk_loader_list() with `sessions` and `channels` that use each; a new reference. */
json_t *alk_worker_plugin_list(const struct alk_worker_plugins *p);

#endif
