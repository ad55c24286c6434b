/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/log.h>
#include "admin_rpc.h"
#include "json_text.h"

#define OUT_MAX ((size_t)1 << 20)
#define CALLS_MAX 256 /* of one client that wait for their answers: then it is not read any more */

#define CLIENT_MAGIC 0x746e6c63u /* "clnt" */

static struct admin_client *client_of(void *user)
{
	struct admin_client *c = user;

	assert(c->magic == CLIENT_MAGIC);
	return c;
}

/* Buffers hold what must not stay in memory (secret.unlock). */
static void buffer_free(char **buffer, size_t size)
{
	if (*buffer != NULL)
		explicit_bzero(*buffer, size);
	free(*buffer);
	*buffer = NULL;
}

/* Writing */

static void client_end(struct admin_client *c)
{
	if (c->ended)
		return;
	c->ended = true;
	alk_io_set(c->io, 0);
	alk_task_queue(c->admin->loop, &c->end);
}

void admin_client_watch(struct admin_client *c)
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
		buffer_free(&c->out, c->out_size);
		c->out_off = c->out_size = 0;
	}
	admin_client_watch(c);
}

char *admin_client_out(struct admin_client *c, size_t need)
{
	if (c->ended)
		return NULL;
	if (c->out_len > OUT_MAX || need == 0) {
		alk_log(ALK_LOG_WARN, "admin client dropped",
			ALK_STR("reason", "it does not read"));
		client_end(c);
		return NULL;
	}
	if (c->out_size - c->out_off - c->out_len < need + 1) {
		size_t size = (c->out_len + need + 1) * 2;
		char *out = malloc(size);

		if (out == NULL) {
			client_end(c);
			return NULL;
		}
		if (c->out_len > 0)
			memcpy(out, c->out + c->out_off, c->out_len);
		buffer_free(&c->out, c->out_size);
		c->out = out;
		c->out_off = 0;
		c->out_size = size;
	}
	return c->out + c->out_off + c->out_len;
}

void admin_client_wrote(struct admin_client *c, size_t n)
{
	c->out_len += n;
	c->out[c->out_off + c->out_len++] = '\n';
	client_flush(c);
}

void admin_client_write(struct admin_client *c, json_t *message)
{
	size_t need = json_dumpb(message, NULL, 0, JSON_COMPACT);
	char *out = admin_client_out(c, need);

	if (out == NULL)
		return;
	json_dumpb(message, out, need, JSON_COMPACT);
	admin_client_wrote(c, need);
}

void admin_client_error(struct admin_client *c, json_t *id, int code, const char *text)
{
	json_t *message = json_pack("{s:s, s:O?, s:{s:i, s:o}}", "jsonrpc", "2.0", "id", id,
				    "error", "code", code, "message", alk_json_text(text));

	if (message == NULL) {
		client_end(c);
		return;
	}
	admin_client_write(c, message);
	json_decref(message);
}

/* Reading */

static void client_line(struct admin_client *c, const char *line, size_t len)
{
	struct alk_admin_request request;
	struct alk_admin_call *call;

	alk_admin_request_parse(line, len, c->admin->commands, &request);
	if (request.code != 0) {
		if (request.id != NULL)
			admin_client_error(c, request.id, request.code, request.message);
		goto out;
	}
	alk_log(request.command->changes ? ALK_LOG_INFO : ALK_LOG_DEBUG, "admin command",
		ALK_STR("command", request.command->name), ALK_INT("uid", c->peer.uid),
		ALK_INT("pid", c->peer.pid));
	call = admin_call_new(c, request.id);
	if (call == NULL)
		admin_client_error(c, request.id, ALK_ADMIN_FAILED, "out of memory");
	else
		request.command->run(c->admin->user, call, request.params);
out:
	alk_admin_request_clear(&request);
}

static void client_refuse_line(struct admin_client *c)
{
	c->refused = true;
	admin_client_error(c, NULL, ALK_ADMIN_INVALID_REQUEST, "a line is at most 65536 bytes");
}

/* Bytes of whole lines that were dealt with: all that are there, as far as the client may have more
 * calls. */
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
	explicit_bzero(c->in + c->in_len - done, done);
	c->in_len -= done;
	c->scanned -= done;
	if (c->in_len == 0 || c->refused) {
		buffer_free(&c->in, c->in_size);
		c->in_len = c->in_size = c->scanned = 0;
	}
}

static void client_more(void *user)
{
	struct admin_client *c = client_of(user);

	client_lines(c);
	admin_client_watch(c);
}

static bool client_room(struct admin_client *c)
{
	size_t size = c->in_size > 0 ? c->in_size * 2 : 4096;
	char *in;

	if (c->in_len < c->in_size)
		return true;
	in = malloc(size);
	if (in == NULL)
		return false;
	if (c->in_len > 0)
		memcpy(in, c->in, c->in_len);
	buffer_free(&c->in, c->in_size);
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
		admin_client_watch(c);
		return;
	}
	c->in_len += (size_t)n;
	client_lines(c);
	admin_client_watch(c);
}

static void on_client_ready(void *user, int revents)
{
	struct admin_client *c = client_of(user);

	if ((revents & ALK_IO_WRITE) != 0)
		client_flush(c);
	if ((revents & ALK_IO_READ) != 0 && !c->ended && !c->eof && !c->refused)
		client_read_more(c);
}

/* Coming and going */

void admin_client_free(struct admin_client **clientp)
{
	struct admin_client *c = *clientp;
	struct alk_admin *admin;

	*clientp = NULL;
	if (c == NULL)
		return;
	admin = c->admin;
	alk_task_cancel(admin->loop, &c->end);
	alk_task_cancel(admin->loop, &c->more);
	c->ended = true;
	while (c->calls != NULL) {
		struct alk_admin_call *call = c->calls;

		c->calls = call->next;
		call->client = NULL;
		if (call->closed != NULL) {
			call->closed(call->user, call);
			admin_call_free(&call);
		}
	}
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	admin->nclients--;
	alk_io_free(&c->io);
	alk_fd_close(&c->fd);
	admin_spare_refill(admin);
	buffer_free(&c->in, c->in_size);
	buffer_free(&c->out, c->out_size);
	c->magic = 0;
	free(c);
}

static void on_client_end(void *user)
{
	struct admin_client *c = client_of(user);

	admin_client_free(&c);
}

bool admin_client_new(struct alk_admin *admin, int fd, const struct ucred *peer)
{
	struct admin_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return false;
	c->io = alk_io_new(admin->loop, fd, "admin client", on_client_ready, c);
	if (c->io == NULL) {
		free(c);
		return false;
	}
	c->magic = CLIENT_MAGIC;
	c->admin = admin;
	c->fd = fd;
	c->peer = *peer;
	c->end = (struct alk_task){.fn = on_client_end, .user = c};
	c->more = (struct alk_task){.fn = client_more, .user = c};
	c->next = admin->clients;
	c->prev = &admin->clients;
	if (c->next != NULL)
		c->next->prev = &c->next;
	admin->clients = c;
	admin->nclients++;
	admin_client_watch(c);
	return true;
}
