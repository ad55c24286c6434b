/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker_local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <alknet/loop.h>
#include <alknet/transport.h>
#include "channel_ask.h"

struct alk_local {
	struct alk_worker_locals *all;
	struct alk_local *next, **prev;
	uint64_t link;
	int fd;
	uid_t uid;
	char service[16];
	struct alk_link at;
	struct alk_grant *grant;
	struct alk_route_session from;
};

int alk_worker_local_open(struct alk_worker_locals *locals, uint64_t link, const char *service,
			  uid_t uid, int *fd)
{
	struct alk_local *local = calloc(1, sizeof(*local));

	if (local == NULL) {
		alk_fd_close(fd);
		return -ENOMEM;
	}
	local->all = locals;
	local->link = link;
	local->fd = *fd;
	*fd = -1;
	local->uid = uid;
	local->at = ALK_LINK_NONE;
	snprintf(local->at.transport, sizeof(local->at.transport), "unix");
	snprintf(local->at.remote_addr, sizeof(local->at.remote_addr), "uid:%lu",
		 (unsigned long)uid);
	snprintf(local->service, sizeof(local->service), "%s", service);
	local->next = locals->first;
	local->prev = &locals->first;
	if (local->next != NULL)
		local->next->prev = &local->next;
	locals->first = local;
	if (alk_route_local(locals->route, service, local))
		return 0;
	/* Whoever called tells that the link ended. */
	local->link = 0;
	alk_local_close(&local);
	return -ENOENT;
}

unsigned alk_worker_local_uses(const struct alk_worker_locals *locals, const char *service)
{
	unsigned n = 0;

	for (const struct alk_local *l = locals->first; l != NULL; l = l->next)
		n += strcmp(l->service, service) == 0;
	return n;
}

void alk_worker_local_finish(const struct alk_worker_locals *locals)
{
	for (const struct alk_local *l = locals->first; l != NULL; l = l->next)
		shutdown(l->fd, SHUT_RDWR);
}

uid_t alk_local_uid(const struct alk_local *local)
{
	return local->uid;
}

int alk_local_fd(const struct alk_local *local)
{
	return local->fd;
}

int alk_local_login(struct alk_local *local, const char *id, const char *const *scopes)
{
	local->grant = alk_grant_new(id, id, NULL, scopes, NULL);
	if (local->grant == NULL)
		return -ENOMEM;
	local->from = (struct alk_route_session){
		.id = local->link,
		.link = &local->at,
		.user = local->grant->identity.user,
		.grant = local->grant,
	};
	return 0;
}

const struct alk_identity *alk_local_identity(const struct alk_local *local)
{
	return local->grant != NULL ? &local->grant->identity : NULL;
}

int alk_local_ask(struct alk_local *local, const struct alk_channel_question *question,
		  void (*done)(void *user, bool allowed, const char *reason), void *user,
		  struct alk_channel_ask **ask)
{
	return alk_channel_ask_as(local->all->policy, &local->from, question, done, user, ask);
}

void alk_local_close(struct alk_local **localp)
{
	struct alk_local *local = *localp;

	*localp = NULL;
	if (local == NULL)
		return;
	*local->prev = local->next;
	if (local->next != NULL)
		local->next->prev = local->prev;
	alk_fd_close(&local->fd);
	alk_grant_unref(&local->grant);
	if (local->link != 0)
		local->all->ended(local->all->user, local->link);
	free(local);
}
