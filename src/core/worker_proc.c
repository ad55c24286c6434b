/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker_proc.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <alknet/log.h>
#include "worker.h"
#include "worker_spawn.h"

#define LAST_WORDS_MS 1000   /* between the end of the process and the end of its control socket */
#define START_LIMIT_MS 60000 /* a worker that is not ready by then never will be */

#define PROC_MAGIC 0x636f7270u /* "proc" */

struct alk_worker_proc {
	uint32_t magic;
	struct alk_loop *loop;
	const struct alk_worker_proc_ops *ops;
	void *user;
	unsigned index;
	int shared_fd; /* -1 = none */
	bool in_process;
	const struct alk_program *program;
	uint64_t watchdog_ms;

	enum alk_worker_proc_state state;
	struct alk_ctl *ctl;
	struct alk_board *board;
	uint32_t ended_read; /* of what the board says */
	pid_t pid;	     /* 0 = none, or this process */
	int pidfd;
	struct alk_io *exit_io;
	struct alk_signal *exit_signal; /* where there is no pidfd */
	struct alk_worker *local;
	struct alk_task local_done;
	struct alk_timer *patience;

	bool ended, was_ready, hung;
	int status;
	char *failed;
	int failed_status;
	uint64_t started, busy_ms, pulse;
	uint64_t nonsense, nonsense_logged;
};

static struct alk_worker_proc *proc_of(void *user)
{
	struct alk_worker_proc *w = user;

	assert(w->magic == PROC_MAGIC);
	return w;
}

const char *alk_worker_proc_state_str(enum alk_worker_proc_state state)
{
	switch (state) {
	case ALK_WORKER_DEAD:
		return "dead";
	case ALK_WORKER_STARTING:
		return "starting";
	case ALK_WORKER_READY:
		return "ready";
	case ALK_WORKER_DRAINING:
		return "draining";
	case ALK_WORKER_STOPPING:
		return "stopping";
	}
	return "?";
}

/* The end of a life */

static void proc_release(struct alk_worker_proc *w)
{
	alk_task_cancel(w->loop, &w->local_done);
	alk_worker_free(&w->local);
	alk_ctl_free(&w->ctl);
	alk_io_free(&w->exit_io);
	alk_signal_free(&w->exit_signal);
	alk_fd_close(&w->pidfd);
	alk_timer_stop(w->patience);
	w->pid = 0;
}

/* Both have to be over: the process, and what it said before. */
static void proc_check_gone(struct alk_worker_proc *w)
{
	struct alk_worker_proc_end end = {.was_ready = w->was_ready,
					  .hung = w->hung,
					  .status = w->status,
					  .pid = alk_worker_proc_pid(w)};
	char *failed = w->failed;

	if (!w->ended || w->ctl != NULL) {
		alk_timer_start(w->patience, LAST_WORDS_MS);
		return;
	}
	proc_release(w);
	end.expected = (w->state == ALK_WORKER_STOPPING || w->state == ALK_WORKER_DRAINING) &&
		       w->status == 0;
	end.lived_ms = alk_loop_now(w->loop) - w->started;
	end.failed = failed;
	end.failed_status = w->failed_status;
	w->failed = NULL;
	w->state = ALK_WORKER_DEAD;
	w->busy_ms = 0;
	w->ops->gone(w->user, w, &end);
	free(failed);
}

/* True when it has ended just now; then `w` may be gone. */
static bool proc_reap(struct alk_worker_proc *w)
{
	int status = 0;
	pid_t pid;

	if (w->ended || w->pid == 0)
		return false;
	pid = waitpid(w->pid, &status, WNOHANG);
	/* ECHILD: somebody else has waited for it, or SIGCHLD is ignored here. */
	if (pid != w->pid && (pid >= 0 || errno != ECHILD))
		return false;
	if (pid != w->pid)
		status = W_EXITCODE(1, 0);
	w->ended = true;
	w->status = status;
	alk_io_free(&w->exit_io);
	alk_signal_free(&w->exit_signal);
	proc_check_gone(w);
	return true;
}

/* One of the two is over and the other is not: it does not take that long. */
static void on_patience(void *user)
{
	struct alk_worker_proc *w = proc_of(user);

	if (!w->ended) {
		/* A SIGCHLD may have been somebody else's, and so may the next. */
		if (!proc_reap(w)) {
			alk_worker_proc_kill(w);
			alk_timer_start(w->patience, LAST_WORDS_MS);
		}
		return;
	}
	alk_ctl_free(&w->ctl);
	proc_check_gone(w);
}

static void on_exit_io(void *user, int revents)
{
	(void)revents;
	proc_reap(proc_of(user));
}

static void on_exit_signal(void *user, int signo)
{
	(void)signo;
	proc_reap(proc_of(user));
}

static void on_local_done(void *user, int status)
{
	struct alk_worker_proc *w = proc_of(user);

	w->status = W_EXITCODE(status & 0xff, 0);
	alk_task_queue(w->loop, &w->local_done);
}

/* Out of the worker's own callback. */
static void local_ended(void *user)
{
	struct alk_worker_proc *w = proc_of(user);

	w->ended = true;
	alk_worker_free(&w->local);
	proc_check_gone(w);
}

/* What it says */

static void proc_nonsense(struct alk_worker_proc *w, const char *op)
{
	uint64_t now = alk_loop_now(w->loop);

	w->nonsense++;
	if (w->nonsense_logged != 0 && now - w->nonsense_logged < 1000)
		return;
	w->nonsense_logged = now;
	alk_log(ALK_LOG_WARN, "worker sent a message that makes no sense",
		ALK_INT("worker", w->index), ALK_STR("op", op),
		ALK_INT("count", (int64_t)w->nonsense));
	w->nonsense = 0;
}

static bool number_of(const json_t *message, const char *key, uint64_t *n)
{
	const json_t *value = json_object_get(message, key);

	if (!json_is_integer(value) || json_integer_value(value) <= 0)
		return false;
	*n = (uint64_t)json_integer_value(value);
	return true;
}

/* No more at once than there is place for: a worker that has been taken over may write faster than
 * we read. */
void alk_worker_proc_look(struct alk_worker_proc *w)
{
	uint64_t link = 0;

	if (w->board == NULL || w->state == ALK_WORKER_DEAD)
		return;
	for (int i = 0; i < ALK_BOARD_ENDED; i++) {
		if (alk_board_ended_next(w->board, &w->ended_read, &link) < 0)
			proc_nonsense(w, "ended");
		if (link == 0)
			return;
		if ((link & ALK_BOARD_LOGIN) == 0)
			w->ops->end(w->user, w, link);
		else if (w->ops->login != NULL)
			w->ops->login(w->user, w, link & ~ALK_BOARD_LOGIN);
	}
}

static bool heard_ready(struct alk_worker_proc *w)
{
	if (w->state != ALK_WORKER_STARTING)
		return w->state != ALK_WORKER_READY; /* told to leave before it was ready */
	w->state = ALK_WORKER_READY;
	w->was_ready = true;
	w->ops->ready(w->user, w);
	return true;
}

static bool heard_failed(struct alk_worker_proc *w, const json_t *message)
{
	const json_t *error = json_object_get(message, "error");

	if (!json_is_string(error) || w->failed != NULL)
		return false;
	w->failed = strndup(json_string_value(error), 1024);
	w->failed_status = json_integer_value(json_object_get(message, "status")) == 2 ? 2 : 1;
	alk_ctl_free(&w->ctl); /* it leaves when it sees that it has been heard */
	proc_check_gone(w);
	return true;
}

static bool heard_reply(struct alk_worker_proc *w, json_t *message)
{
	uint64_t id;

	if (!number_of(message, "id", &id) || (json_object_get(message, "result") == NULL) ==
						      (json_object_get(message, "error") == NULL))
		return false;
	w->ops->reply(w->user, w, id, message);
	return true;
}

static bool proc_hear(struct alk_worker_proc *w, const char *op, json_t *message)
{
	uint64_t link;

	if (strcmp(op, "login") == 0) {
		if (!number_of(message, "link", &link))
			return false;
		if (w->ops->login != NULL)
			w->ops->login(w->user, w, link);
		return true;
	}
	if (strcmp(op, "end") == 0) {
		if (!number_of(message, "link", &link))
			return false;
		alk_worker_proc_look(w); /* so that it need not say that there is something */
		w->ops->end(w->user, w, link);
		return true;
	}
	if (strcmp(op, "ended") == 0) {
		alk_worker_proc_look(w);
		return true;
	}
	if (strcmp(op, "misdeed") == 0) {
		const char *what = json_string_value(json_object_get(message, "what"));

		if (what == NULL || !number_of(message, "link", &link))
			return false;
		if (w->ops->misdeed != NULL)
			w->ops->misdeed(w->user, w, link, what);
		return true;
	}
	if (strcmp(op, "reply") == 0)
		return heard_reply(w, message);
	if (strcmp(op, "event") == 0) {
		if (!json_is_string(json_object_get(message, "event")))
			return false;
		w->ops->event(w->user, w, message);
		return true;
	}
	if (strcmp(op, "remote") == 0 || strcmp(op, "remote_want") == 0)
		return w->ops->remote != NULL && w->ops->remote(w->user, w, message);
	if (strcmp(op, "ready") == 0)
		return heard_ready(w);
	if (strcmp(op, "failed") == 0)
		return heard_failed(w, message);
	if (strcmp(op, "drained") == 0) {
		if (w->state == ALK_WORKER_DRAINING)
			alk_worker_proc_stop(w);
		return true;
	}
	return false;
}

static void on_ctl_message(void *user, struct alk_ctl *ctl, json_t *message, int fd)
{
	struct alk_worker_proc *w = proc_of(user);
	const char *op = json_string_value(json_object_get(message, "op"));

	(void)ctl;
	if (fd >= 0) /* a worker has none to give */
		alk_fd_close(&fd);
	if (!proc_hear(w, op, message))
		proc_nonsense(w, op);
}

static void on_ctl_closed(void *user, struct alk_ctl *ctl, int rc)
{
	struct alk_worker_proc *w = proc_of(user);

	(void)ctl;
	if (rc != 0) {
		alk_log(ALK_LOG_ERROR, "control socket of a worker broke",
			ALK_INT("worker", w->index), ALK_STR("error", strerror(-rc)));
		alk_worker_proc_kill(w);
	}
	alk_ctl_free(&w->ctl);
	proc_check_gone(w);
}

static void on_ctl_bytes(void *user, struct alk_ctl *ctl, const char *name, const uint8_t *bytes,
			 size_t n)
{
	struct alk_worker_proc *w = proc_of(user);

	(void)ctl;
	if (!w->ops->bytes(w->user, w, name, bytes, n))
		proc_nonsense(w, "bytes");
}

static const struct alk_ctl_ops proc_ctl_ops = {.message = on_ctl_message,
						.bytes = on_ctl_bytes,
						.closed = on_ctl_closed};

/* What it is told */

static int proc_sent(struct alk_worker_proc *w, int rc)
{
	if (rc == -ENOBUFS) {
		alk_log(ALK_LOG_ERROR, "worker does not read its control socket",
			ALK_INT("worker", w->index));
		alk_worker_proc_kill(w);
	}
	return rc;
}

int alk_worker_proc_send(struct alk_worker_proc *w, json_t *message, int *fd)
{
	if (w->ctl == NULL) {
		json_decref(message);
		if (fd != NULL)
			alk_fd_close(fd);
		return -EPIPE;
	}
	return proc_sent(w, alk_ctl_send(w->ctl, message, fd));
}

int alk_worker_proc_send_bytes(struct alk_worker_proc *w, const char *name, const void *bytes,
			       size_t n)
{
	return w->ctl != NULL ? proc_sent(w, alk_ctl_send_bytes(w->ctl, name, bytes, n)) : -EPIPE;
}

int alk_worker_proc_send_link(struct alk_worker_proc *w, uint64_t number, struct alk_link *link)
{
	if (w->ctl != NULL)
		return proc_sent(w, alk_ctl_send_link(w->ctl, number, link));
	alk_link_close(link);
	return -EPIPE;
}

void alk_worker_proc_drain(struct alk_worker_proc *w, uint64_t timeout_ms)
{
	if (w->state == ALK_WORKER_STARTING) {
		alk_worker_proc_stop(w); /* it has nothing to finish */
	} else if (w->state == ALK_WORKER_READY) {
		w->state = ALK_WORKER_DRAINING;
		alk_worker_proc_send(w,
				     json_pack("{s:s, s:I}", "op", "drain", "timeout_ms",
					       (json_int_t)timeout_ms),
				     NULL);
	}
}

void alk_worker_proc_stop(struct alk_worker_proc *w)
{
	if (w->state == ALK_WORKER_DEAD || w->state == ALK_WORKER_STOPPING)
		return;
	w->state = ALK_WORKER_STOPPING;
	alk_worker_proc_send(w, json_pack("{s:s}", "op", "stop"), NULL);
}

void alk_worker_proc_kill(struct alk_worker_proc *w)
{
	if (w->pid > 0 && !w->ended) {
		kill(w->pid, SIGKILL);
	} else if (w->in_process && w->local != NULL && !w->ended) {
		w->status = W_EXITCODE(1, 0);
		alk_task_queue(w->loop, &w->local_done);
	}
}

/* A new life */

static int proc_start_local(struct alk_worker_proc *w, int *ctl, struct alk_err *err)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
		return alk_err_set(err, -errno, "cannot make a control socket: %s",
				   strerror(errno));
	w->local = alk_worker_new(w->loop, &fd[1], true, on_local_done, w, err);
	if (w->local == NULL) {
		alk_fd_close(&fd[0]);
		alk_fd_close(&fd[1]);
		return -EIO;
	}
	alk_worker_set_program(w->local, w->program);
	w->pid = 0;
	*ctl = fd[0];
	return 0;
}

static int proc_watch_exit(struct alk_worker_proc *w, struct alk_err *err)
{
	if (w->pidfd >= 0)
		w->exit_io = alk_io_new(w->loop, w->pidfd, "worker process", on_exit_io, w);
	else
		w->exit_signal = alk_signal_new(w->loop, SIGCHLD, "worker process", on_exit_signal,
						w);
	if (w->exit_io == NULL && w->exit_signal == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	if (w->exit_io != NULL)
		alk_io_set(w->exit_io, ALK_IO_READ);
	return 0;
}

static void proc_abandon(struct alk_worker_proc *w)
{
	if (w->pid > 0) {
		kill(w->pid, SIGKILL);
		while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	proc_release(w);
}

int alk_worker_proc_start(struct alk_worker_proc *w, json_t *start, struct alk_err *err)
{
	int board_fd = -1, shared_fd = -1, ctl = -1, rc;

	alk_board_free(&w->board);
	w->ended = w->was_ready = w->hung = false;
	w->status = w->failed_status = 0;
	w->busy_ms = w->pulse = 0;
	w->ended_read = 0;
	w->started = alk_loop_now(w->loop);
	/* Workers in this process count on its own board, which has no other reader. */
	if (!w->in_process)
		w->board = alk_board_new(&board_fd, err);
	rc = w->board != NULL || w->in_process ? 0 : -ENOMEM;
	if (rc == 0)
		rc = w->in_process ? proc_start_local(w, &ctl, err)
				   : alk_worker_spawn(&w->pid, &w->pidfd, &ctl, err);
	if (rc == 0) {
		w->ctl = alk_ctl_new(w->loop, &ctl, &proc_ctl_ops, w, err);
		rc = w->ctl != NULL ? 0 : -ENOMEM;
	}
	if (rc == 0 && !w->in_process)
		rc = proc_watch_exit(w, err);
	if (rc == 0 && w->shared_fd >= 0) {
		shared_fd = fcntl(w->shared_fd, F_DUPFD_CLOEXEC, 0);
		rc = shared_fd < 0
			     ? -errno
			     : alk_ctl_send(w->ctl, json_pack("{s:s}", "op", "shared"), &shared_fd);
		if (rc != 0)
			alk_err_set(err, rc, "cannot share memory with a worker: %s",
				    strerror(-rc));
	}
	if (rc == 0) {
		rc = alk_ctl_send(w->ctl, json_incref(start), &board_fd);
		if (rc != 0)
			alk_err_set(err, rc, "cannot send a worker its configuration: %s",
				    strerror(-rc));
	}
	alk_fd_close(&board_fd);
	json_decref(start);
	if (rc != 0)
		proc_abandon(w);
	else
		w->state = ALK_WORKER_STARTING;
	return rc;
}

void alk_worker_proc_set_program(struct alk_worker_proc *w, const struct alk_program *program)
{
	w->program = program;
}

void alk_worker_proc_share(struct alk_worker_proc *worker, int fd)
{
	worker->shared_fd = fd;
}

struct alk_worker_proc *alk_worker_proc_new(struct alk_loop *loop, unsigned index, bool in_process,
					    uint64_t watchdog_ms,
					    const struct alk_worker_proc_ops *ops, void *user)
{
	struct alk_worker_proc *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->magic = PROC_MAGIC;
	w->loop = loop;
	w->ops = ops;
	w->user = user;
	w->index = index;
	w->shared_fd = -1;
	w->in_process = in_process;
	w->watchdog_ms = watchdog_ms;
	w->pidfd = -1;
	w->local_done = (struct alk_task){.fn = local_ended, .user = w};
	w->patience = alk_timer_new(loop, "worker's last words", on_patience, w);
	if (w->patience == NULL) {
		free(w);
		return NULL;
	}
	return w;
}

void alk_worker_proc_free(struct alk_worker_proc **wp)
{
	struct alk_worker_proc *w = *wp;

	*wp = NULL;
	if (w == NULL)
		return;
	if (w->ended)
		w->pid = 0; /* reaped: the number may be another's */
	proc_abandon(w);
	alk_board_free(&w->board);
	alk_timer_free(&w->patience);
	free(w->failed);
	w->magic = 0;
	free(w);
}

/* The watchdog */

/* A process that waited when it was stopped (SIGSTOP) has no pulse and never will have one; one
 * that was busy is no fault of the session in its hand. */
static bool proc_is_stopped(const struct alk_worker_proc *w)
{
	siginfo_t info = {0};

	return w->pid > 0 &&
	       waitid(P_PID, (id_t)w->pid, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == w->pid;
}

static void proc_hung(struct alk_worker_proc *w)
{
	struct alk_board_hand hand = {0};

	w->hung = true;
	if (!proc_is_stopped(w))
		alk_board_get_hand(w->board, &hand);
	/* Told first: whoever it was comes back as soon as the worker is dead. */
	w->ops->hung(w->user, w, &hand);
	alk_worker_proc_kill(w);
}

/* Only changes of the pulse count, not its value: no clock has to agree, and a worker cannot say it
 * woke in the future. A tick that came late (this process was stopped) counts as two at most, so
 * that a worker that was stopped with us gets its time. */
void alk_worker_proc_tick(struct alk_worker_proc *w, uint64_t elapsed_ms)
{
	uint64_t pulse;

	if (w->in_process || w->state == ALK_WORKER_DEAD || w->ended || w->hung)
		return;
	pulse = atomic_load_explicit(&w->board->busy_since, memory_order_relaxed);
	if (pulse != w->pulse || (pulse == 0 && !proc_is_stopped(w))) {
		w->pulse = pulse;
		w->busy_ms = 0;
	} else {
		w->busy_ms += elapsed_ms;
	}
	if (w->busy_ms >= w->watchdog_ms) {
		proc_hung(w);
	} else if (w->state == ALK_WORKER_STARTING &&
		   alk_loop_now(w->loop) - w->started > START_LIMIT_MS) {
		alk_log(ALK_LOG_ERROR, "worker did not get ready in time",
			ALK_INT("worker", w->index));
		alk_worker_proc_kill(w);
	}
}

unsigned alk_worker_proc_index(const struct alk_worker_proc *w)
{
	return w->index;
}

enum alk_worker_proc_state alk_worker_proc_state(const struct alk_worker_proc *w)
{
	return w != NULL ? w->state : ALK_WORKER_DEAD;
}

pid_t alk_worker_proc_pid(const struct alk_worker_proc *w)
{
	if (w->in_process)
		return w->state != ALK_WORKER_DEAD ? getpid() : 0;
	return w->pid;
}

const struct alk_board *alk_worker_proc_board(const struct alk_worker_proc *w)
{
	return w->board;
}

uint64_t alk_worker_proc_busy_ms(const struct alk_worker_proc *w)
{
	return w->busy_ms;
}
