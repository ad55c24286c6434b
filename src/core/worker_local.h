/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WORKER_LOCAL_H
#define ALK_WORKER_LOCAL_H

/* A worker's connections at services' local sockets (alknet/local.h). The supervisor accepted them;
 * they count as links until the service closes them. */

#include <alknet/local.h>
#include "policy.h"
#include "route.h"

struct alk_worker_locals {
	struct alk_local *first;
	struct alk_loop *loop;
	struct alk_policy *policy; /* borrowed */
	struct alk_route *route;
	void (*ended)(void *user, uint64_t link); /* it is gone */
	void *user;
};

/* Hand one to its service; takes *fd, always. -errno: there is no such service. */
int alk_worker_local_open(struct alk_worker_locals *locals, uint64_t link, const char *service,
			  uid_t uid, int *fd);
/* How many a service has. */
unsigned alk_worker_local_uses(const struct alk_worker_locals *locals, const char *service);
/* All are to end: their services read the end of the stream. */
void alk_worker_local_finish(const struct alk_worker_locals *locals);

#endif
