/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <alknet/local.h>
#include "admin_socket.h"
#include "loader.h"

/* Local sockets of services (alknet/local.h): accept, ask the kernel who it is, hand on to a
 * worker. */

#define LOCAL_MAX 4096 /* connections of all users */
#define ACCEPTS 64     /* a turn */
#define SHORT_MS 100   /* out of descriptors: how long nobody is accepted */
#define SHORTAGE_MS                                                                                \
	5000 /* one within that time of the last is still the same, and is not logged again */

#define LISTENER_MAGIC 0x6c636f6cu /* "locl" */

struct alk_local_listener {
	uint32_t magic;
	struct alk_local_listener *next;
	struct alk_supervisor *sup;
	char service[16];
	struct alk_admin_socket sock;
	struct alk_io *io;
	struct alk_timer *pause;
	uint64_t last_short; /* 0 = never */
};

struct supervisor_local {
	struct supervisor_local *next;
	uint64_t link;
	uid_t uid;
};

static struct alk_local_listener *listener_of(void *user)
{
	struct alk_local_listener *listener = user;

	assert(listener->magic == LISTENER_MAGIC);
	return listener;
}

static bool local_may_come(const struct alk_supervisor *sup, uid_t uid)
{
	int64_t max = alk_options_int(sup->values, "max_channels");
	int64_t all = 0, mine = 0;

	for (const struct supervisor_local *l = sup->locals; l != NULL; l = l->next) {
		all++;
		mine += l->uid == uid;
	}
	return all < LOCAL_MAX && mine < max;
}

static void local_hand_on(struct alk_local_listener *listener, int *fd, const struct ucred *who)
{
	struct alk_supervisor *sup = listener->sup;
	struct supervisor_slot *slot = supervisor_pick_worker(sup);
	struct supervisor_local *l = slot != NULL ? calloc(1, sizeof(*l)) : NULL;

	if (l == NULL || alk_linktab_add(sup->links, ++sup->last_link, (unsigned)(slot - sup->slot),
					 "") == NULL) {
		free(l);
		return;
	}
	*l = (struct supervisor_local){sup->locals, sup->last_link, who->uid};
	sup->locals = l;
	slot->links++;
	alk_log(ALK_LOG_DEBUG, "local connection opened", ALK_STR("service", listener->service),
		ALK_INT("uid", who->uid), ALK_INT("pid", who->pid));
	if (alk_worker_proc_send(slot->worker,
				 json_pack("{s:s, s:I, s:s, s:I}", "op", "local", "link",
					   (json_int_t)l->link, "service", listener->service, "uid",
					   (json_int_t)who->uid),
				 fd) != 0)
		supervisor_release_link(sup, l->link);
}

static void local_take(struct alk_local_listener *listener, int *fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	char name[32];

	if (getsockopt(*fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		return;
	snprintf(name, sizeof(name), "uid:%lu", (unsigned long)who.uid);
	supervisor_look(listener->sup);
	if (listener->sup->state != SUPERVISOR_RUNNING)
		supervisor_refuse(listener->sup, ALK_REFUSAL_WORKER, name);
	else if (!local_may_come(listener->sup, who.uid))
		supervisor_refuse(listener->sup, ALK_REFUSAL_ADDRESS, name);
	else
		local_hand_on(listener, fd, &who);
}

static void local_short(struct alk_local_listener *listener, int failure)
{
	uint64_t now = alk_loop_now(listener->sup->loop);

	if (listener->last_short == 0 || now - listener->last_short > SHORTAGE_MS)
		alk_log(ALK_LOG_WARN, "accept paused", ALK_STR("service", listener->service),
			ALK_STR("error", strerror(failure)));
	listener->last_short = now;
	alk_io_set(listener->io, 0);
	alk_timer_start(listener->pause, SHORT_MS);
}

static void on_connections(void *user, int revents)
{
	struct alk_local_listener *listener = listener_of(user);

	(void)revents;
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(listener->sock.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 &&
		    (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
			local_short(listener, errno);
		if (fd < 0)
			return;
		local_take(listener, &fd);
		alk_fd_close(&fd);
	}
}

static void on_pause_end(void *user)
{
	struct alk_local_listener *listener = listener_of(user);

	if (supervisor_is_served(listener->sup))
		alk_io_set(listener->io, ALK_IO_READ);
}

void supervisor_local_accept(struct alk_supervisor *sup, bool ready)
{
	for (struct alk_local_listener *l = sup->local_listeners; l != NULL; l = l->next)
		/* Without one: another program has it. */
		if (l->sock.fd >= 0 && !alk_timer_active(l->pause))
			alk_io_set(l->io, ready ? ALK_IO_READ : 0);
}

void supervisor_local_gone(struct alk_supervisor *sup, uint64_t link)
{
	for (struct supervisor_local **at = &sup->locals; *at != NULL; at = &(*at)->next) {
		struct supervisor_local *l = *at;

		if (l->link != link)
			continue;
		*at = l->next;
		free(l);
		return;
	}
}

void supervisor_local_leave(struct alk_supervisor *sup)
{
	for (struct alk_local_listener *l = sup->local_listeners; l != NULL; l = l->next) {
		alk_timer_stop(l->pause);
		alk_io_set(l->io, 0);
		alk_admin_socket_leave(&l->sock);
	}
}

void supervisor_local_deinit(struct alk_supervisor *sup)
{
	while (sup->locals != NULL)
		supervisor_local_gone(sup, sup->locals->link);
}

static void *on_half_listen(void *user, const char *name, const char *option, const char *path,
			    unsigned mode, gid_t gid, struct alk_err *err)
{
	struct alk_supervisor *sup = supervisor_of(user);
	struct alk_local_listener *listener = calloc(1, sizeof(*listener));

	if (listener == NULL) {
		alk_err_set(err, -ENOMEM, "%s: out of memory", option);
		return NULL;
	}
	listener->magic = LISTENER_MAGIC;
	listener->sup = sup;
	snprintf(listener->service, sizeof(listener->service), "%s", name);
	if (alk_admin_socket_open_as(&listener->sock, option, path, (mode_t)mode, gid, err) < 0) {
		free(listener);
		return NULL;
	}
	listener->next = sup->local_listeners;
	sup->local_listeners = listener;
	listener->io = alk_io_new(sup->loop, listener->sock.fd, "local socket", on_connections,
				  listener);
	listener->pause = alk_timer_new(sup->loop, "local socket", on_pause_end, listener);
	if (listener->io == NULL || listener->pause == NULL) {
		alk_err_set(err, -ENOMEM, "%s: out of memory", option);
		alk_half_unlisten(&listener);
		return NULL;
	}
	on_pause_end(listener);
	return listener;
}

void supervisor_local_carry(struct alk_supervisor *sup, struct alk_loader *loader)
{
	alk_loader_set_listen(loader, on_half_listen, sup);
}

void alk_half_unlisten(struct alk_local_listener **listenerp)
{
	struct alk_local_listener *listener = *listenerp;
	struct alk_local_listener **at;

	*listenerp = NULL;
	if (listener == NULL)
		return;
	for (at = &listener->sup->local_listeners; *at != listener;)
		at = &(*at)->next;
	*at = listener->next;
	alk_io_free(&listener->io);
	alk_timer_free(&listener->pause);
	alk_admin_socket_close(&listener->sock);
	listener->magic = 0;
	free(listener);
}
