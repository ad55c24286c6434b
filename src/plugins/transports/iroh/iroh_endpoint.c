/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "iroh.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "../../common/companion.h"
#include "iroh_packet.h"

#define ENDPOINT_MAGIC 0x69726f65u
#define START_MS 10000
#define END_MS 3000
#define RESTART_MIN 1000
#define RESTART_MAX 30000
/* One that lived so long did not fail at its start. */
#define RESTART_LIVED 60000
/* Packets taken in one go; others have their turn between. */
#define BUDGET 64

struct iroh_endpoint {
	uint32_t magic;
	struct alk_loop *loop;
	json_t *settings;
	bool again, ready;
	const struct iroh_endpoint_ops *ops;
	void *user;
	struct iroh_shim *shim;
	struct companion program;
	struct alk_io *io;
	struct alk_timer *restart;
	uint64_t restart_ms, started;
	char id[IROH_ID_Z32];
	char bound[256];
	char failed[256];
	bool *freed; /* while something of ours is being called */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Links say their last, and peers hear of the end: that takes a round trip or three. The loop does
 * not run meanwhile, so the shim, its way out, has its turns here. */
static void program_wait(int pidfd, struct iroh_shim *shim)
{
	struct pollfd at[1 + IROH_SHIM_FDS] = {{.fd = pidfd, .events = POLLIN}};
	int64_t until = now_ms() + END_MS, left;

	while (at[0].revents == 0 && (left = until - now_ms()) > 0) {
		size_t n = shim != NULL ? iroh_shim_fds(shim, at + 1) : 0;

		if (poll(at, (nfds_t)(1 + n), (int)left) < 0 && errno != EINTR)
			return;
		if (shim != NULL)
			iroh_shim_turn(shim);
	}
}

/* Its socket closed it ends by itself; what has not in END_MS is killed. */
static void program_end(struct iroh_endpoint *e)
{
	int pidfd;

	alk_fd_close(&e->program.fd);
	pidfd = e->program.pid > 0 ? (int)syscall(SYS_pidfd_open, e->program.pid, 0) : -1;
	if (pidfd >= 0)
		program_wait(pidfd, e->shim);
	alk_fd_close(&pidfd);
	companion_end(&e->program);
}

static void endpoint_stop(struct iroh_endpoint *e)
{
	alk_io_free(&e->io);
	program_end(e);
	e->ready = false;
}

/* It is dead, or says what it must not, or nothing that is said to it arrives: it is given no
 * time. */
static void endpoint_lost(struct iroh_endpoint *e)
{
	char why[256];

	alk_io_free(&e->io);
	companion_end(&e->program);
	e->ready = false;
	snprintf(why, sizeof(why), "%s",
		 e->failed[0] != '\0' ? e->failed : "alknet-iroh has ended");
	e->failed[0] = '\0';
	if (e->again) {
		if (alk_loop_now(e->loop) - e->started > RESTART_LIVED)
			e->restart_ms = RESTART_MIN;
		alk_log(ALK_LOG_ERROR, "iroh endpoint ended", ALK_STR("reason", why),
			ALK_INT("again_in_ms", (int64_t)e->restart_ms));
		alk_timer_start(e->restart, e->restart_ms);
		e->restart_ms = e->restart_ms * 2 < RESTART_MAX ? e->restart_ms * 2 : RESTART_MAX;
	}
	e->ops->ended(e->user, why);
}

/* ---- what it says ---- */

/* What came with a packet: *fd, or -1. -EPROTO: more than one descriptor, of which one at most is
 * kept, in *fd. */
static int fds_take(struct msghdr *message, int *fd)
{
	const struct cmsghdr *head = CMSG_FIRSTHDR(message);
	size_t n = 0;

	if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
		n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	for (size_t i = 0; i < n; i++) {
		alk_fd_close(fd);
		memcpy(fd, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
	}
	/* Cut with none at all: ours have run out. */
	return n > 1 || (n == 1 && (message->msg_flags & MSG_CTRUNC) != 0) ? -EPROTO : 0;
}

/* > 0: a packet, *fd is what came with it; 0: none now; < 0: it is gone, or says what it must
 * not. *fd is to be closed in any case. */
static int packet_read(struct iroh_endpoint *e, struct iroh_packet *packet, int *fd)
{
	static uint8_t bytes[IROH_PACKET_MAX];
	/* There is room for two where one is aligned. */
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(e->program.fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int rc;

	*fd = -1;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	rc = fds_take(&message, fd);
	if (rc < 0)
		return rc;
	if (n == 0 || (message.msg_flags & MSG_TRUNC) != 0)
		return -EPIPE;
	return iroh_packet_parse(bytes, (size_t)n, packet) == 0 ? 1 : -EPROTO;
}

static void ready_take(struct iroh_endpoint *e, const struct iroh_packet *packet)
{
	iroh_id_z32(packet->peer, e->id);
	snprintf(e->bound, sizeof(e->bound), "%s", packet->text);
	e->ready = true;
	alk_log(ALK_LOG_INFO, "iroh endpoint", ALK_STR("id", e->id),
		ALK_STR("udp", e->bound[0] != '\0' ? e->bound : "none"),
		ALK_INT("pid", e->program.pid));
}

/* The port that was kept may be another program's by now, which would be so each time. */
static void failed_take(struct iroh_endpoint *e, const struct iroh_packet *packet)
{
	snprintf(e->failed, sizeof(e->failed), "%s", packet->text);
	if (!e->ready)
		e->bound[0] = '\0';
}

static void packet_take(struct iroh_endpoint *e, const struct iroh_packet *packet, int *fd)
{
	if (packet->kind == IROH_PACKET_READY)
		ready_take(e, packet);
	else if (packet->kind == IROH_PACKET_FAILED)
		failed_take(e, packet);
	else
		e->ops->heard(e->user, packet, fd);
	alk_fd_close(fd);
}

static void on_program(void *user, int revents)
{
	struct iroh_endpoint *e = user;
	struct iroh_packet packet;
	bool freed = false;
	int fd, rc = 1;

	(void)revents;
	assert(e->magic == ENDPOINT_MAGIC);
	/* cppcheck-suppress autoVariables */
	e->freed = &freed;
	for (unsigned i = 0; i < BUDGET && rc > 0 && e->program.fd >= 0; i++) {
		rc = packet_read(e, &packet, &fd);
		if (rc > 0)
			packet_take(e, &packet, &fd);
		else
			alk_fd_close(&fd);
		if (freed)
			return;
	}
	e->freed = NULL;
	if (rc < 0 || e->failed[0] != '\0')
		endpoint_lost(e);
}

/* It has missed something, and would go on without. on_program finds the end. */
static void endpoint_give_up(struct iroh_endpoint *e, int rc)
{
	if (rc != -EPIPE && e->failed[0] == '\0')
		snprintf(e->failed, sizeof(e->failed), "alknet-iroh cannot be spoken to: %s",
			 strerror(-rc));
	shutdown(e->program.fd, SHUT_RDWR);
}

int iroh_endpoint_say(struct iroh_endpoint *e, json_t *packet)
{
	char *text = packet != NULL && e->program.fd >= 0 ? json_dumps(packet, JSON_COMPACT) : NULL;
	int rc = e->program.fd < 0 ? -EPIPE : -ENOMEM;

	if (text != NULL) {
		rc = send(e->program.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0
			     ? -errno
			     : 0;
		explicit_bzero(text, strlen(text));
		free(text);
	}
	json_decref(packet);
	if (rc < 0 && e->program.fd >= 0)
		endpoint_give_up(e, rc);
	return rc;
}

/* ---- life ---- */

/* Where the program has a proxy it is the only way out: HTTP through it, and no UDP. */
static int proxy_add(struct iroh_endpoint *e, json_t *start, struct alk_err *err)
{
	if (!alk_dial_proxied(e->loop))
		return 0;
	if (e->shim == NULL)
		e->shim = iroh_shim_new(e->loop, err);
	if (e->shim == NULL)
		return -EINVAL;
	json_object_set_new(start, "direct", json_false());
	json_object_set_new(start, "mdns", json_false());
	return json_object_set_new(start, "proxy", json_string(iroh_shim_url(e->shim))) < 0
		       ? alk_err_set(err, -ENOMEM, "out of memory")
		       : 0;
}

/* A port that the system chose is kept over a restart, if it is still to be had: peers know it. */
static void bound_add(const struct iroh_endpoint *e, json_t *start)
{
	json_t *bind;
	char text[sizeof(e->bound)], *rest = text, *one;

	if (e->bound[0] == '\0')
		return;
	bind = json_array();
	strcpy(text, e->bound);
	while ((one = strsep(&rest, ",")) != NULL)
		json_array_append_new(bind, json_string(one + strspn(one, " ")));
	json_object_set_new(start, "bind", bind);
}

static const struct companion_kind alknet_iroh = {
	.name = "alknet-iroh",
	.needs = "the iroh transport needs",
	.type = SOCK_SEQPACKET | SOCK_NONBLOCK,
	.buffer = 2 * IROH_PACKET_MAX,
};

int iroh_endpoint_start(struct iroh_endpoint *e, struct alk_err *err)
{
	json_t *start;
	int rc;

	if (e->program.fd >= 0)
		return 0;
	start = json_deep_copy(e->settings);
	if (start == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	rc = proxy_add(e, start, err);
	bound_add(e, start);
	if (rc == 0)
		rc = companion_start(&e->program, &alknet_iroh, err);
	if (rc < 0) {
		json_decref(start);
		return rc;
	}
	e->started = alk_loop_now(e->loop);
	e->io = alk_io_new(e->loop, e->program.fd, "alknet-iroh", on_program, e);
	rc = iroh_endpoint_say(e, json_pack("{s:o}", "start", start));
	if (rc < 0 || e->io == NULL) {
		endpoint_stop(e);
		e->failed[0] = '\0';
		return alk_err_set(err, rc < 0 ? rc : -ENOMEM, "alknet-iroh cannot be spoken to");
	}
	alk_io_set(e->io, ALK_IO_READ);
	return 0;
}

/* Its first packet. 1, or 0 when the time is over, or -errno. */
static int first_read(struct iroh_endpoint *e, struct iroh_packet *packet, int *fd)
{
	struct pollfd at = {.fd = e->program.fd, .events = POLLIN};
	int64_t until = now_ms() + START_MS, left;
	int rc = 0;

	*fd = -1;
	while (rc == 0 && (left = until - now_ms()) > 0) {
		rc = poll(&at, 1, (int)left);
		if (rc > 0)
			rc = packet_read(e, packet, fd);
		else if (rc < 0)
			rc = errno == EINTR ? 0 : -errno;
	}
	return rc;
}

int iroh_endpoint_start_now(struct iroh_endpoint *e, struct alk_err *err)
{
	struct iroh_packet packet;
	int fd, rc = iroh_endpoint_start(e, err);

	if (rc < 0)
		return rc;
	rc = first_read(e, &packet, &fd);
	if (rc > 0)
		packet_take(e, &packet, &fd);
	alk_fd_close(&fd);
	if (e->ready)
		return 0;
	if (e->failed[0] != '\0')
		rc = alk_err_set(err, -EINVAL, "%s", e->failed);
	else if (rc == 0)
		rc = alk_err_set(err, -ETIMEDOUT, "alknet-iroh did not start: it says nothing");
	else
		rc = alk_err_set(err, rc < 0 ? rc : -EPROTO,
				 "alknet-iroh did not start: it has ended");
	endpoint_stop(e);
	return rc;
}

static void on_restart(void *user)
{
	struct iroh_endpoint *e = user;
	struct alk_err err = {""};

	assert(e->magic == ENDPOINT_MAGIC);
	if (iroh_endpoint_start(e, &err) == 0) {
		if (e->ops->started != NULL)
			e->ops->started(e->user);
		return;
	}
	snprintf(e->failed, sizeof(e->failed), "%.255s", err.text);
	endpoint_lost(e);
}

struct iroh_endpoint *iroh_endpoint_new(struct alk_loop *loop, json_t *settings, bool again,
					const struct iroh_endpoint_ops *ops, void *user)
{
	struct iroh_endpoint *e = calloc(1, sizeof(*e));

	if (e == NULL) {
		json_decref(settings);
		return NULL;
	}
	e->magic = ENDPOINT_MAGIC;
	e->loop = loop;
	e->settings = settings;
	e->again = again;
	e->ops = ops;
	e->user = user;
	e->program.fd = -1;
	e->restart_ms = RESTART_MIN;
	e->restart = alk_timer_new(loop, "iroh restart", on_restart, e);
	if (e->restart == NULL)
		iroh_endpoint_free(&e);
	return e;
}

void iroh_endpoint_free(struct iroh_endpoint **at)
{
	struct iroh_endpoint *e = *at;

	*at = NULL;
	if (e == NULL)
		return;
	if (e->freed != NULL)
		*e->freed = true;
	endpoint_stop(e);
	alk_timer_free(&e->restart);
	iroh_shim_free(&e->shim);
	json_decref(e->settings);
	e->magic = 0;
	free(e);
}

const char *iroh_endpoint_id(const struct iroh_endpoint *e)
{
	return e->id;
}

const json_t *iroh_endpoint_settings(const struct iroh_endpoint *e)
{
	return e->settings;
}
