/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "metrics_http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>
#include <alknet/transport.h>
#include "http_head.h"

#define CLIENTS_MAX 64
#define CLIENT_MS 10000

struct client {
	struct alk_metrics_http *http;
	TAILQ_ENTRY(client) entry;
	int fd;
	struct alk_io *io;
	struct alk_timer *timer;
	char in[ALK_HTTP_HEAD_MAX + 1];
	size_t in_len;
	char *out; /* NULL while READING */
	size_t out_len, out_off;
	bool ending; /* all is sent: only the peer's end is waited for */
};

struct alk_metrics_http {
	struct alk_loop *loop;
	struct alk_listener *listener;
	const struct alk_metrics_http_ops *ops;
	void *user;
	TAILQ_HEAD(, client) clients; /* oldest first */
	unsigned n;
	char address[128];
};

static void client_free(struct client *c)
{
	TAILQ_REMOVE(&c->http->clients, c, entry);
	c->http->n--;
	alk_io_free(&c->io);
	alk_timer_free(&c->timer);
	alk_fd_close(&c->fd);
	free(c->out);
	free(c);
}

static void on_client_timeout(void *user)
{
	client_free(user);
}

/* Answering */

static const char *reason_of(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 431:
		return "Request Header Fields Too Large";
	default:
		return "Service Unavailable";
	}
}

static void client_answer(struct client *c, int status, const char *type, const char *body,
			  size_t len, bool head_only)
{
	int n = asprintf(&c->out,
			 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
			 "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s"
			 "Connection: close\r\n\r\n%.*s",
			 status, reason_of(status), type, len,
			 status == 405 ? "Allow: GET, HEAD\r\n" : "", head_only ? 0 : (int)len,
			 body);

	if (n < 0)
		c->out = NULL;
	else
		c->out_len = (size_t)n;
}

static void answer_text(struct client *c, int status, const char *text, bool head_only)
{
	char line[256];

	snprintf(line, sizeof(line), "%s\n", text);
	client_answer(c, status, "text/plain; charset=utf-8", line, strlen(line), head_only);
}

static void answer_metrics(struct client *c, bool head_only)
{
	struct alk_metrics_text text = {0};

	c->http->ops->metrics(c->http->user, &text);
	if (text.failed || text.text == NULL)
		answer_text(c, 503, "out of memory", head_only);
	else
		client_answer(c, 200, "text/plain; version=0.0.4; charset=utf-8", text.text,
			      text.len, head_only);
	alk_metrics_text_deinit(&text);
}

static void client_serve(struct client *c, const struct alk_http_head *head)
{
	bool head_only = strcmp(head->method, "HEAD") == 0;
	const char *why;

	if (!head_only && strcmp(head->method, "GET") != 0) {
		answer_text(c, 405, "only GET and HEAD", false);
	} else if (strcmp(head->path, "/metrics") == 0) {
		answer_metrics(c, head_only);
	} else if (strcmp(head->path, "/livez") == 0) {
		answer_text(c, 200, "ok", head_only);
	} else if (strcmp(head->path, "/readyz") == 0) {
		why = c->http->ops->unready(c->http->user);
		answer_text(c, why == NULL ? 200 : 503, why == NULL ? "ok" : why, head_only);
	} else {
		answer_text(c, 404, "there are /metrics, /livez and /readyz", head_only);
	}
}

/* The connection */

/* False: it is gone. */
static bool client_write(struct client *c)
{
	while (c->out_off < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			alk_io_set(c->io, ALK_IO_WRITE);
			return true;
		}
		if (n < 0) {
			client_free(c);
			return false;
		}
		c->out_off += (size_t)n;
	}
	/* Closed at once, what the peer still sends would make its kernel forget the answer. */
	shutdown(c->fd, SHUT_WR);
	c->ending = true;
	alk_io_set(c->io, ALK_IO_READ);
	return true;
}

static void client_judge(struct client *c)
{
	struct alk_http_head head;
	int rc = alk_http_head_parse(c->in, c->in_len, &head);

	if (rc == 0)
		return;
	if (rc == -EFBIG)
		answer_text(c, 431, "the request is too long", false);
	else if (rc < 0)
		answer_text(c, 400, "this is no HTTP request", false);
	else
		client_serve(c, &head);
	if (c->out == NULL)
		client_free(c);
	else
		client_write(c);
}

static void on_client_ready(void *user, int revents)
{
	struct client *c = user;
	char waste[4096];
	ssize_t n;

	if ((revents & ALK_IO_WRITE) && !client_write(c))
		return;
	if (!(revents & ALK_IO_READ))
		return;
	n = c->ending ? recv(c->fd, waste, sizeof(waste), MSG_DONTWAIT)
		      : recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_free(c);
	} else if (!c->ending) {
		c->in_len += (size_t)n;
		client_judge(c);
	}
}

static void on_accepted(void *user, struct alk_link *link)
{
	struct alk_metrics_http *http = user;
	struct client *c;

	if (http->n == CLIENTS_MAX)
		client_free(TAILQ_FIRST(&http->clients));
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		alk_link_close(link);
		return;
	}
	c->http = http;
	c->fd = link->fd;
	link->fd = -1;
	TAILQ_INSERT_TAIL(&http->clients, c, entry);
	http->n++;
	c->io = alk_io_new(http->loop, c->fd, "metrics client", on_client_ready, c);
	c->timer = alk_timer_new(http->loop, "metrics client", on_client_timeout, c);
	if (c->io == NULL || c->timer == NULL) {
		client_free(c);
		return;
	}
	alk_io_set(c->io, ALK_IO_READ);
	alk_timer_start(c->timer, CLIENT_MS);
}

int alk_metrics_http_open(struct alk_metrics_http **httpp, struct alk_loop *loop,
			  const char *address, const struct alk_metrics_http_ops *ops, void *user,
			  struct alk_err *err)
{
	struct alk_metrics_http *http;
	int rc;

	*httpp = NULL;
	if (address == NULL || address[0] == '\0' || strcmp(address, "none") == 0)
		return 0;
	http = calloc(1, sizeof(*http));
	if (http == NULL)
		return alk_err_set(err, -ENOMEM, "metrics_listen: out of memory");
	*http = (struct alk_metrics_http){.loop = loop, .ops = ops, .user = user};
	TAILQ_INIT(&http->clients);
	rc = alk_tcp_listen(loop, "http", address, NULL,
			    &(struct alk_acceptor){.accepted = on_accepted, .user = http},
			    &http->listener, err);
	if (rc < 0) {
		free(http);
		return alk_err_prefix(err, rc, "metrics_listen");
	}
	alk_tcp_describe(http->listener, http->address, sizeof(http->address));
	*httpp = http;
	return 0;
}

void alk_metrics_http_pause(struct alk_metrics_http *http, bool paused)
{
	if (http != NULL)
		alk_tcp_pause(http->listener, paused);
}

void alk_metrics_http_free(struct alk_metrics_http **httpp)
{
	struct alk_metrics_http *http = *httpp;

	*httpp = NULL;
	if (http == NULL)
		return;
	while (!TAILQ_EMPTY(&http->clients))
		client_free(TAILQ_FIRST(&http->clients));
	alk_tcp_unlisten(&http->listener);
	free(http);
}

const char *alk_metrics_http_address(const struct alk_metrics_http *http)
{
	return http != NULL ? http->address : "";
}
