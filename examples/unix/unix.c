/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A transport over unix sockets: SSH between two processes of one machine, or through a directory
 * that two containers share. README.md says how to build and to use it.
 *
 * A link is the connected socket itself, so SSH runs on it as it is. What this transport adds is
 * who is at the other end: the kernel's word (SO_PEERCRED), so that limits count a user and
 * policies know one. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <alknet/alknet.h>

#define UNIX_MAGIC 0x756e6978u
#define LISTENER_MAGIC 0x756e696cu
#define ADMISSION_MAGIC 0x756e6961u
#define DIALING_MAGIC 0x756e6964u
#define BACKLOG 128
#define SHORT_PAUSE_MS 100 /* accepting rests for so long when descriptors or memory are short */

/* One an instance, from init to deinit. */
struct unix_state {
	uint32_t magic;
	struct alk_loop *loop;
	const struct alk_options *options;
	uint64_t timeout_ms;
};

/* ---- the supervisor's part: listening ---- */

/* The type is the transport's own; the host only hands its pointer back. */
struct alk_listener {
	uint32_t magic;
	struct alk_loop *loop;
	struct alk_acceptor up;
	int fd;
	struct alk_io *io;
	struct alk_timer *rest;
	bool paused;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	dev_t dev; /* the socket's file, so that only ours is removed */
	ino_t ino;
};

static struct unix_state *state_of(void *state)
{
	struct unix_state *u = state;

	assert(u->magic == UNIX_MAGIC);
	return u;
}

static struct alk_listener *listener_of(struct alk_listener *listener)
{
	assert(listener->magic == LISTENER_MAGIC);
	return listener;
}

static void listener_watch(struct alk_listener *listener)
{
	bool on = !listener->paused && !alk_timer_active(listener->rest);

	alk_io_set(listener->io, on ? ALK_IO_READ : 0);
}

static void listener_on_rested(void *user)
{
	listener_watch(listener_of(user));
}

/* One connection a wake-up: the loop wakes again at once when more wait. */
static void listener_on_ready(void *user, int revents)
{
	struct alk_listener *listener = listener_of(user);
	struct alk_link link = ALK_LINK_NONE;
	struct ucred who;
	socklen_t len = sizeof(who);
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)revents;
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd < 0) {
		alk_log(ALK_LOG_WARN, "accept paused", ALK_STR("transport", "unix"),
			ALK_STR("error", strerror(errno)));
		alk_timer_start(listener->rest, SHORT_PAUSE_MS);
		listener_watch(listener);
		return;
	}
	/* The host counts links by remote_addr: here one user is what an address is elsewhere. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0) {
		alk_fd_close(&fd);
		return;
	}
	link.fd = fd;
	snprintf(link.transport, sizeof(link.transport), "unix");
	snprintf(link.remote_addr, sizeof(link.remote_addr), "uid:%lu", (unsigned long)who.uid);
	if (strlen(listener->path) < sizeof(link.local_addr))
		memcpy(link.local_addr, listener->path, strlen(listener->path) + 1);
	/* The last: it may unlisten, and the listener is gone then. */
	listener->up.accepted(listener->up.user, &link);
}

static int address_fill(struct sockaddr_un *sun, const char *address, struct alk_err *err)
{
	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (address[0] != '/')
		return alk_err_set(err, -EINVAL, "\"%.128s\" is not an absolute path", address);
	if (strlen(address) >= sizeof(sun->sun_path))
		return alk_err_set(err, -ENAMETOOLONG, "the path \"%.128s...\" is longer than %zu",
				   address, sizeof(sun->sun_path) - 1);
	memcpy(sun->sun_path, address, strlen(address) + 1);
	return 0;
}

/* Is it a socket that nobody listens at any more? */
static bool socket_is_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	bool stale;
	int fd;

	if (lstat(sun->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 &&
		errno == ECONNREFUSED;
	alk_fd_close(&fd);
	return stale;
}

/* The mode is there before the name is: nobody comes in between. */
static int socket_bind(int fd, const struct sockaddr_un *sun, mode_t mode)
{
	int rc;

	if (fchmod(fd, mode) < 0)
		return -errno;
	rc = bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 ? -errno : 0;
	if (rc == -EADDRINUSE && socket_is_stale(sun) && unlink(sun->sun_path) == 0)
		rc = bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 ? -errno : 0;
	/* The umask took from it, perhaps. */
	if (rc == 0 && chmod(sun->sun_path, mode) < 0)
		rc = -errno;
	return rc;
}

static int listener_open(struct alk_listener *listener, const struct sockaddr_un *sun, mode_t mode)
{
	struct stat st;
	int rc;

	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return -errno;
	rc = socket_bind(listener->fd, sun, mode);
	if (rc < 0)
		return rc;
	if (lstat(sun->sun_path, &st) < 0 || listen(listener->fd, BACKLOG) < 0)
		return -errno;
	memcpy(listener->path, sun->sun_path, sizeof(listener->path));
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	listener->io = alk_io_new(listener->loop, listener->fd, "unix listener", listener_on_ready,
				  listener);
	listener->rest = alk_timer_new(listener->loop, "unix shortage", listener_on_rested,
				       listener);
	return listener->io != NULL && listener->rest != NULL ? 0 : -ENOMEM;
}

static void unix_unlisten(void *state, struct alk_listener **listenerp)
{
	struct alk_listener *listener = *listenerp;
	struct stat st;

	(void)state;
	*listenerp = NULL;
	if (listener == NULL)
		return;
	listener_of(listener);
	if (listener->path[0] != '\0' && lstat(listener->path, &st) == 0 &&
	    st.st_dev == listener->dev && st.st_ino == listener->ino)
		unlink(listener->path);
	alk_io_free(&listener->io);
	alk_timer_free(&listener->rest);
	alk_fd_close(&listener->fd);
	listener->magic = 0;
	free(listener);
}

static int unix_listen(void *state, const char *address, const struct alk_acceptor *up,
		       struct alk_listener **out, struct alk_err *err)
{
	struct unix_state *u = state_of(state);
	const char *mode = alk_options_str(u->options, "mode");
	struct alk_listener *listener;
	struct sockaddr_un sun;
	int rc = address_fill(&sun, address, err);

	*out = NULL;
	if (rc < 0)
		return alk_err_prefix(err, rc, "cannot listen");
	listener = calloc(1, sizeof(*listener));
	if (listener == NULL)
		return alk_err_set(err, -ENOMEM, "cannot listen on %s: out of memory", address);
	listener->magic = LISTENER_MAGIC;
	listener->loop = u->loop;
	listener->up = *up;
	rc = listener_open(listener, &sun, (mode_t)strtoul(mode, NULL, 8));
	if (rc < 0) {
		unix_unlisten(state, &listener);
		return alk_err_set(err, rc, "cannot listen on %s: %s", address, strerror(-rc));
	}
	listener_watch(listener);
	*out = listener;
	return 0;
}

static void unix_pause(void *state, struct alk_listener *listener, bool paused)
{
	(void)state;
	listener_of(listener)->paused = paused;
	listener_watch(listener);
}

static void unix_describe(void *state, const struct alk_listener *listener, char *text, size_t size)
{
	(void)state;
	snprintf(text, size, "%s", listener->path);
}

/* ---- the worker's part: who may come ---- */

struct admission {
	uint32_t magic;
	struct unix_state *u;
	struct alk_link link;
	struct alk_task task; /* `done` may not run before unix_admit returned */
	alk_link_fn *done;
	void *user;
};

static bool uid_is_listed(const struct alk_options *options, uid_t uid)
{
	const char *text;

	if (!alk_options_has(options, "uid"))
		return true;
	for (size_t n = 0; (text = alk_options_nth(options, "uid", n)) != NULL; n++) {
		char *end;
		unsigned long listed = strtoul(text, &end, 10);

		if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && listed == uid)
			return true;
	}
	return false;
}

/* The worker asks the kernel itself. */
static int admission_judge(struct admission *admission, struct alk_err *err)
{
	struct alk_link *link = &admission->link;
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(link->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return alk_err_set(err, -errno, "who is there is not known: %s", strerror(errno));
	if (!uid_is_listed(admission->u->options, who.uid))
		return alk_err_set(err, -EACCES, "uid %lu is not let in", (unsigned long)who.uid);
	snprintf(link->peer_id, sizeof(link->peer_id), "uid:%lu", (unsigned long)who.uid);
	return 0;
}

static void admission_free(struct admission *admission)
{
	alk_task_cancel(admission->u->loop, &admission->task);
	alk_link_close(&admission->link);
	admission->magic = 0;
	free(admission);
}

static void admission_run(void *user)
{
	struct admission *admission = user;
	struct alk_link link = ALK_LINK_NONE;
	alk_link_fn *done = admission->done;
	struct alk_err err = {""};
	int rc;

	assert(admission->magic == ADMISSION_MAGIC);
	rc = admission_judge(admission, &err);
	if (rc == 0) {
		link = admission->link;
		admission->link.fd = -1;
	}
	/* The handle is dead once `done` began: free it first. */
	user = admission->user;
	admission_free(admission);
	done(user, rc, &link, &err);
}

static void *unix_admit(void *state, struct alk_link *link, alk_link_fn *done, void *user)
{
	struct admission *admission = calloc(1, sizeof(*admission));

	if (admission == NULL) {
		alk_link_close(link);
		return NULL;
	}
	admission->magic = ADMISSION_MAGIC;
	admission->u = state_of(state);
	admission->link = *link;
	admission->done = done;
	admission->user = user;
	admission->task = (struct alk_task){.fn = admission_run, .user = admission};
	alk_task_queue(admission->u->loop, &admission->task);
	return admission;
}

static void unix_admit_cancel(void *state, void **admission)
{
	(void)state;
	if (*admission != NULL)
		admission_free(*admission);
	*admission = NULL;
}

/* ---- the client's part: dialing ---- */

struct dialing {
	uint32_t magic;
	struct alk_dial *dial;
	alk_link_fn *done;
	void *user;
};

static void dialing_free(struct dialing *dialing)
{
	alk_dial_cancel(&dialing->dial);
	dialing->magic = 0;
	free(dialing);
}

static void dialing_on_done(void *user, int rc, int fd, const struct alk_err *err)
{
	struct dialing *dialing = user;
	struct alk_link link = ALK_LINK_NONE;
	alk_link_fn *done = dialing->done;
	struct alk_err why = *err;

	assert(dialing->magic == DIALING_MAGIC);
	user = dialing->user;
	dialing->dial = NULL; /* it ended: nothing to cancel */
	dialing_free(dialing);
	if (rc == 0)
		rc = alk_link_of_fd(&link, "unix", &fd, &why);
	done(user, rc, &link, &why);
}

static void *unix_dial(void *state, const char *address, alk_link_fn *done, void *user,
		       struct alk_err *err)
{
	struct unix_state *u = state_of(state);
	struct sockaddr_un sun;
	struct dialing *dialing;

	if (address_fill(&sun, address, err) < 0)
		return NULL;
	dialing = calloc(1, sizeof(*dialing));
	if (dialing == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	dialing->magic = DIALING_MAGIC;
	dialing->done = done;
	dialing->user = user;
	dialing->dial = alk_dial_unix(u->loop, address, u->timeout_ms, dialing_on_done, dialing,
				      err);
	if (dialing->dial == NULL) {
		dialing_free(dialing);
		return NULL;
	}
	return dialing;
}

static void unix_dial_cancel(void *state, void **dialing)
{
	(void)state;
	if (*dialing != NULL)
		dialing_free(*dialing);
	*dialing = NULL;
}

/* ---- the plugin ---- */

static int unix_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct unix_state *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	u->magic = UNIX_MAGIC;
	u->loop = env->loop;
	u->options = env->options;
	u->timeout_ms = env->connect_timeout;
	*state = u;
	return 0;
}

static void unix_deinit(void **state)
{
	state_of(*state)->magic = 0;
	free(*state);
	*state = NULL;
}

static const struct alk_option unix_options[] = {
	{.name = "mode",
	 .type = ALK_OPT_ENUM,
	 .choices = "0600|0660|0666",
	 .fallback = "0600",
	 .arg = "MODE",
	 .help = "mode of the socket that is listened at"},
	{.name = "uid",
	 .type = ALK_OPT_STRING,
	 .flags = ALK_OPT_REPEAT,
	 .arg = "UID",
	 .help = "let in only processes of this user"},
	{.type = ALK_OPT_END},
};

static const struct alk_transport_ops unix_ops = {
	.size = sizeof(unix_ops),
	.listen = unix_listen,
	.unlisten = unix_unlisten,
	.pause = unix_pause,
	.describe = unix_describe,
	.admit = unix_admit,
	.admit_cancel = unix_admit_cancel,
	.dial = unix_dial,
	.dial_cancel = unix_dial_cancel,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_TRANSPORT, .name = "unix", .version = "0.1", .options = unix_options,
	   .init = unix_init, .deinit = unix_deinit, .ops.transport = &unix_ops, );
