/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <alknet/log.h>
#include "admin_rpc.h"
#include "admin_socket.h"
#include "text.h"

#define CALL_MAGIC 0x6c6c6163u /* "call" */
#define OUT_MAX ((size_t)1 << 20)
#define CALLS_MAX 256 /* of one client that wait for their answers: then it is not read any more */
#define ACCEPT_BUDGET 64
#define ACCEPT_PAUSE_MS 100

struct admin_client;

struct alk_admin_call {
	uint32_t magic;
	struct admin_client *client; /* NULL: it has gone */
	struct alk_admin_call *next, **prev;
	json_t *id;						 /* NULL: a notification */
	void (*closed)(void *user, struct alk_admin_call *call); /* of a stream */
	void *user;
	alk_admin_local_fn *answer; /* NULL: it came over the socket */
	void *answer_user;
};

struct admin_client {
	struct alk_admin *admin;
	struct admin_client *next, **prev;
	int fd;
	struct alk_io *io;
	struct alk_task end, more;
	struct ucred peer;
	bool ended;   /* `end` is queued: nothing more is read or written */
	bool eof;     /* it sends no more; end when all is answered and written */
	bool refused; /* what it sends is not looked at any more; the same */
	struct alk_admin_call *calls;
	unsigned ncalls, nstreams;
	char *in;
	size_t in_len, in_size, scanned;
	char *out;
	size_t out_off, out_len, out_size;
};

struct alk_admin {
	struct alk_loop *loop;
	const struct alk_admin_command *commands;
	void *user;
	struct alk_admin_socket sock;
	struct alk_io *io;
	struct alk_timer *pause;
	int spare; /* given up to accept when there is no other descriptor left */
	struct admin_client *clients;
	unsigned nclients;
	uint64_t refused_logged;
	uid_t users[ALK_ADMIN_USERS_MAX];
	size_t n_users;
};

/* Writing */

static void client_end(struct admin_client *c)
{
	if (c->ended)
		return;
	c->ended = true;
	alk_io_set(c->io, 0);
	alk_task_queue(c->admin->loop, &c->end);
}

static void client_watch(struct admin_client *c)
{
	int events = 0;

	if (c->ended)
		return;
	if ((c->eof || c->refused) && c->ncalls == 0 && c->out_len == 0 && c->more.prev == NULL) {
		client_end(c);
		return;
	}
	if (!c->eof && !c->refused && c->ncalls < CALLS_MAX)
		events |= ALK_IO_READ;
	if (c->out_len > 0)
		events |= ALK_IO_WRITE;
	alk_io_set(c->io, events);
}

static void client_flush(struct admin_client *c)
{
	while (c->out_len > 0 && !c->ended) {
		ssize_t n = send(c->fd, c->out + c->out_off, c->out_len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			client_end(c);
			return;
		}
		c->out_off += (size_t)n;
		c->out_len -= (size_t)n;
	}
	if (c->out_len == 0) {
		free(c->out);
		c->out = NULL;
		c->out_off = c->out_size = 0;
	}
	client_watch(c);
}

/* One line. A client that leaves more than OUT_MAX unread is dropped; one long answer is no reason. */
static void client_write(struct admin_client *c, json_t *message)
{
	size_t need = json_dumpb(message, NULL, 0, JSON_COMPACT);

	if (c->ended)
		return;
	if (c->out_len > OUT_MAX || need == 0) {
		alk_log(ALK_LOG_WARN, "admin client dropped",
			ALK_STR("reason", "it does not read"));
		client_end(c);
		return;
	}
	if (c->out_size - c->out_off - c->out_len < need + 1) {
		size_t size = (c->out_len + need + 1) * 2;
		char *out = malloc(size);

		if (out == NULL) {
			client_end(c);
			return;
		}
		if (c->out_len > 0)
			memcpy(out, c->out + c->out_off, c->out_len);
		free(c->out);
		c->out = out;
		c->out_off = 0;
		c->out_size = size;
	}
	json_dumpb(message, c->out + c->out_off + c->out_len, need, JSON_COMPACT);
	c->out_len += need;
	c->out[c->out_off + c->out_len++] = '\n';
	client_flush(c);
}

static void client_error(struct admin_client *c, json_t *id, int code, const char *text)
{
	char plain[1024];
	json_t *message;

	if (!alk_text_utf8(text, strlen(text))) { /* cut in the middle of a letter, maybe */
		alk_text_escape(text, strlen(text), plain, sizeof(plain));
		text = plain;
	}
	message = json_pack("{s:s, s:O?, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id, "error",
			    "code", code, "message", text);
	if (message == NULL) {
		client_end(c);
		return;
	}
	client_write(c, message);
	json_decref(message);
}

/* Calls */

static void call_free(struct alk_admin_call *call)
{
	if (call->client != NULL) {
		*call->prev = call->next;
		if (call->next != NULL)
			call->next->prev = call->prev;
		call->client->ncalls--;
		if (call->closed != NULL)
			call->client->nstreams--;
		/* Lines that had to wait, maybe; not inside whatever answers this call. */
		if (call->client->in_len > 0)
			alk_task_queue(call->client->admin->loop, &call->client->more);
		client_watch(call->client);
	}
	json_decref(call->id);
	call->magic = 0;
	free(call);
}

static struct alk_admin_call *call_new(struct admin_client *c, json_t *id)
{
	struct alk_admin_call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return NULL;
	call->magic = CALL_MAGIC;
	call->client = c;
	call->id = json_incref(id);
	call->next = c->calls;
	call->prev = &c->calls;
	if (call->next != NULL)
		call->next->prev = &call->next;
	c->calls = call;
	c->ncalls++;
	return call;
}

void alk_admin_result(struct alk_admin_call **callp, json_t *result)
{
	struct alk_admin_call *call = *callp;

	*callp = NULL;
	if (call->answer != NULL)
		call->answer(call->answer_user, result, NULL);
	if (call->client != NULL && call->id != NULL) {
		json_t *message = json_pack("{s:s, s:O, s:O}", "jsonrpc", "2.0", "id", call->id,
					    "result", result);

		if (message != NULL)
			client_write(call->client, message);
		else
			client_error(call->client, call->id, ALK_ADMIN_FAILED, "out of memory");
		json_decref(message);
	}
	json_decref(result);
	call_free(call);
}

void alk_admin_error(struct alk_admin_call **callp, int code, const char *fmt, ...)
{
	struct alk_admin_call *call = *callp;
	char text[512];
	va_list ap;

	*callp = NULL;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (call->answer != NULL)
		call->answer(call->answer_user, NULL, text);
	if (call->client != NULL && call->id != NULL)
		client_error(call->client, call->id, code, text);
	call_free(call);
}

void alk_admin_stream(struct alk_admin_call *call,
		      void (*closed)(void *user, struct alk_admin_call *call), void *user)
{
	json_t *message = json_pack("{s:s, s:O?, s:b}", "jsonrpc", "2.0", "id", call->id, "result",
				    1);

	call->closed = closed;
	call->user = user;
	if (call->answer != NULL)
		call->answer(call->answer_user, json_true(), NULL);
	if (call->client != NULL) {
		call->client->nstreams++;
		if (call->id != NULL && message != NULL)
			client_write(call->client, message);
	}
	json_decref(message);
}

void alk_admin_event(struct alk_admin_call *call, json_t *event)
{
	json_t *message = json_pack("{s:s, s:s, s:O}", "jsonrpc", "2.0", "method", "event",
				    "params", event);

	if (call->answer != NULL)
		call->answer(call->answer_user, event, NULL);
	if (message != NULL && call->client != NULL)
		client_write(call->client, message);
	json_decref(message);
	json_decref(event);
}

/* The same checks as for a line of the socket. */
int alk_admin_local(const struct alk_admin_command *commands, void *commands_user,
		    const char *method, json_t *params, alk_admin_local_fn *answer, void *user)
{
	json_t *line = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method",
				 method, "params", params != NULL ? params : json_object());
	char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
	struct alk_admin_call *call = text != NULL ? calloc(1, sizeof(*call)) : NULL;
	struct alk_admin_request request;

	json_decref(line);
	if (call == NULL) {
		free(text);
		return -ENOMEM;
	}
	call->magic = CALL_MAGIC;
	call->answer = answer;
	call->answer_user = user;
	alk_admin_request_parse(text, strlen(text), commands, &request);
	free(text);
	if (request.code != 0)
		alk_admin_error(&call, request.code, "%s", request.message);
	else
		request.command->run(commands_user, call, request.params);
	alk_admin_request_clear(&request);
	return 0;
}

void alk_admin_local_end(struct alk_admin_call *call)
{
	call->answer = NULL;
	call->closed(call->user, call);
	call_free(call);
}

/* Reading */

static void client_line(struct admin_client *c, const char *line, size_t len)
{
	struct alk_admin_request request;
	struct alk_admin_call *call;

	alk_admin_request_parse(line, len, c->admin->commands, &request);
	if (request.code != 0) {
		if (request.id != NULL)
			client_error(c, request.id, request.code, request.message);
		goto out;
	}
	alk_log(request.command->changes ? ALK_LOG_INFO : ALK_LOG_DEBUG, "admin command",
		ALK_STR("command", request.command->name), ALK_INT("uid", c->peer.uid),
		ALK_INT("pid", c->peer.pid));
	call = call_new(c, request.id);
	if (call == NULL)
		client_error(c, request.id, ALK_ADMIN_FAILED, "out of memory");
	else
		request.command->run(c->admin->user, call, request.params);
out:
	alk_admin_request_clear(&request);
}

static void client_refuse_line(struct admin_client *c)
{
	c->refused = true;
	client_error(c, NULL, ALK_ADMIN_INVALID_REQUEST, "a line is at most 65536 bytes");
}

/* Bytes of whole lines that were dealt with: all that are there, as far as the client may have more calls. */
static size_t client_whole_lines(struct admin_client *c)
{
	size_t start = 0;

	while (!c->ended && !c->refused && c->ncalls < CALLS_MAX) {
		char *newline = memchr(c->in + c->scanned, '\n', c->in_len - c->scanned);
		size_t end = newline != NULL ? (size_t)(newline - c->in) : c->in_len;

		c->scanned = end;
		if (end - start > ALK_ADMIN_LINE_MAX)
			client_refuse_line(c);
		else if (newline != NULL)
			client_line(c, c->in + start, end - start);
		if (newline == NULL)
			break;
		start = c->scanned = end + 1;
	}
	return start;
}

static void client_lines(struct admin_client *c)
{
	size_t done;

	if (c->in_len == 0)
		return;
	done = client_whole_lines(c);
	memmove(c->in, c->in + done, c->in_len - done);
	c->in_len -= done;
	c->scanned -= done;
	if (c->in_len == 0 || c->refused) {
		free(c->in);
		c->in = NULL;
		c->in_len = c->in_size = c->scanned = 0;
	}
}

static void client_more(void *user)
{
	struct admin_client *c = user;

	client_lines(c);
	client_watch(c);
}

static bool client_room(struct admin_client *c)
{
	size_t size = c->in_size > 0 ? c->in_size * 2 : 4096;
	char *in;

	if (c->in_len < c->in_size)
		return true;
	in = realloc(c->in, size);
	if (in == NULL)
		return false;
	c->in = in;
	c->in_size = size;
	return true;
}

static void client_read_more(struct admin_client *c)
{
	ssize_t n;

	if (!client_room(c)) {
		client_end(c);
		return;
	}
	n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len, 0);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_end(c);
		return;
	}
	if (n == 0) {
		/* It may still listen for answers; a stream has none that would be the last. */
		c->eof = true;
		if (c->nstreams > 0)
			client_end(c);
		client_watch(c);
		return;
	}
	c->in_len += (size_t)n;
	client_lines(c);
	client_watch(c);
}

static void on_client_ready(void *user, int revents)
{
	struct admin_client *c = user;

	if ((revents & ALK_IO_WRITE) != 0)
		client_flush(c);
	if ((revents & ALK_IO_READ) != 0 && !c->ended && !c->eof && !c->refused)
		client_read_more(c);
}

/* Coming and going */

static void spare_refill(struct alk_admin *admin)
{
	if (admin->spare < 0)
		admin->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void client_free(void *user)
{
	struct admin_client *c = user;
	struct alk_admin *admin = c->admin;

	alk_task_cancel(admin->loop, &c->end);
	alk_task_cancel(admin->loop, &c->more);
	c->ended = true;
	while (c->calls != NULL) {
		struct alk_admin_call *call = c->calls;

		c->calls = call->next;
		call->client = NULL;
		if (call->closed != NULL) {
			call->closed(call->user, call);
			call_free(call);
		}
	}
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	admin->nclients--;
	alk_io_free(&c->io);
	alk_fd_close(&c->fd);
	spare_refill(admin);
	free(c->in);
	free(c->out);
	free(c);
}

static bool user_may(const struct alk_admin *admin, uid_t uid)
{
	if (uid == 0 || uid == geteuid())
		return true;
	for (size_t i = 0; i < admin->n_users; i++)
		if (admin->users[i] == uid)
			return true;
	return false;
}

static bool peer_may(struct alk_admin *admin, int fd, struct ucred *peer)
{
	socklen_t len = sizeof(*peer);
	uint64_t now = alk_loop_now(admin->loop);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) != 0)
		return false;
	if (user_may(admin, peer->uid))
		return true;
	if (admin->refused_logged == 0 || now - admin->refused_logged >= 1000) {
		admin->refused_logged = now;
		alk_log(ALK_LOG_WARN, "admin client refused", ALK_INT("uid", peer->uid),
			ALK_INT("pid", peer->pid));
	}
	return false;
}

static void client_new(struct alk_admin *admin, int fd)
{
	static const char full[] = "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32000,"
				   "\"message\":\"there are too many admin clients\"}}\n";
	struct admin_client *c = NULL;
	struct ucred peer;

	if (!peer_may(admin, fd, &peer))
		goto refuse;
	if (admin->nclients >= ALK_ADMIN_CLIENTS_MAX) {
		send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		goto refuse;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		goto refuse;
	c->admin = admin;
	c->fd = fd;
	c->peer = peer;
	c->end = (struct alk_task){.fn = client_free, .user = c};
	c->more = (struct alk_task){.fn = client_more, .user = c};
	c->io = alk_io_new(admin->loop, fd, "admin client", on_client_ready, c);
	if (c->io == NULL)
		goto refuse;
	c->next = admin->clients;
	c->prev = &admin->clients;
	if (c->next != NULL)
		c->next->prev = &c->next;
	admin->clients = c;
	admin->nclients++;
	client_watch(c);
	return;
refuse:
	free(c);
	alk_fd_close(&fd);
	spare_refill(admin);
}

static int accept_one(struct alk_admin *admin)
{
	int fd = accept4(admin->sock.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE) && admin->spare >= 0) {
		alk_fd_close(&admin->spare);
		fd = accept4(admin->sock.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	return fd < 0 ? -errno : fd;
}

static void on_accept(void *user, int revents)
{
	struct alk_admin *admin = user;

	(void)revents;
	for (int i = 0; i < ACCEPT_BUDGET; i++) {
		int fd = accept_one(admin);

		if (fd >= 0) {
			client_new(admin, fd);
			continue;
		}
		if (fd == -EINTR || fd == -ECONNABORTED)
			continue;
		if (fd != -EAGAIN) { /* no descriptor, no memory: later */
			alk_io_set(admin->io, 0);
			alk_timer_start(admin->pause, ACCEPT_PAUSE_MS);
		}
		spare_refill(admin);
		return;
	}
}

static void on_pause_over(void *user)
{
	struct alk_admin *admin = user;

	alk_io_set(admin->io, ALK_IO_READ);
}

struct alk_admin *alk_admin_new(struct alk_loop *loop, const char *path,
				const struct alk_admin_command *commands, void *user,
				struct alk_err *err)
{
	struct alk_admin *admin = calloc(1, sizeof(*admin));

	if (admin == NULL) {
		alk_err_set(err, -ENOMEM, "admin_socket: out of memory");
		return NULL;
	}
	admin->loop = loop;
	admin->commands = commands;
	admin->user = user;
	admin->spare = -1;
	if (alk_admin_socket_open(&admin->sock, path, err) != 0)
		goto fail;
	spare_refill(admin);
	admin->io = alk_io_new(loop, admin->sock.fd, "admin socket", on_accept, admin);
	admin->pause = alk_timer_new(loop, "admin accept pause", on_pause_over, admin);
	if (admin->io == NULL || admin->pause == NULL) {
		alk_err_set(err, -ENOMEM, "admin_socket: out of memory");
		goto fail;
	}
	alk_io_set(admin->io, ALK_IO_READ);
	return admin;
fail:
	alk_admin_free(&admin);
	return NULL;
}

void alk_admin_set_users(struct alk_admin *admin, const uid_t *uids, size_t n)
{
	admin->n_users = n < ALK_ADMIN_USERS_MAX ? n : ALK_ADMIN_USERS_MAX;
	memcpy(admin->users, uids, admin->n_users * sizeof(*uids));
	alk_admin_socket_share(&admin->sock, n > 0);
}

int alk_admin_user_parse(const char *text, uid_t *uid, struct alk_err *err)
{
	const struct passwd *account;
	char shown[128];
	int64_t number;

	if (alk_text_int(text, &number) == 0 && number >= 0 && number < UINT32_MAX) {
		*uid = (uid_t)number;
		return 0;
	}
	account = getpwnam(text);
	if (account != NULL) {
		*uid = account->pw_uid;
		return 0;
	}
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return alk_err_set(err, -ENOENT, "there is no account %s", shown);
}

void alk_admin_free(struct alk_admin **adminp)
{
	struct alk_admin *admin = *adminp;

	*adminp = NULL;
	if (admin == NULL)
		return;
	while (admin->clients != NULL)
		client_free(admin->clients);
	alk_io_free(&admin->io);
	alk_timer_free(&admin->pause);
	alk_admin_socket_close(&admin->sock);
	alk_fd_close(&admin->spare);
	free(admin);
}
