/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "proxy.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <alknet/log.h>
#include "loop_private.h"
#include "proxy_wire.h"

#define PROXY_MAGIC 0x70727879u
#define PEEK 1024
#define COMPLAIN_MS 10000

struct alk_proxy {
	uint32_t magic;
	struct alk_loop *loop;
	struct alk_io *io;
	int fd;
	struct alk_proxy_url url;
	struct alk_proxy_wire wire;
	size_t sent; /* of wire.out */
	alk_proxy_fn *done;
	void *user;
};

static const char proxy_key; /* of alk_loop_keep */

/* ---- which proxy ---- */

/* A loop's. */
struct proxy_kept {
	struct alk_proxy_url url;
	const struct alk_proxy_url *lent;
	uint64_t logged; /* when a failure was, 0 = never */
};

static void kept_free(void *kept)
{
	explicit_bzero(kept, sizeof(struct proxy_kept));
	free(kept);
}

static struct proxy_kept *kept_of(struct alk_loop *loop)
{
	struct proxy_kept *kept = alk_loop_kept(loop, &proxy_key);

	if (kept != NULL)
		return kept;
	kept = calloc(1, sizeof(*kept));
	if (kept != NULL && alk_loop_keep(loop, &proxy_key, kept, kept_free) < 0) {
		free(kept);
		return NULL;
	}
	return kept;
}

int alk_proxy_set(struct alk_loop *loop, const char *text, struct alk_err *err)
{
	struct proxy_kept *kept = kept_of(loop);
	struct alk_proxy_url url;
	int rc = alk_proxy_url_parse(text != NULL ? text : "none", &url, err);

	if (rc == 0 && kept == NULL)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	if (rc == 0)
		kept->url = url;
	explicit_bzero(&url, sizeof(url));
	return rc;
}

void alk_proxy_lend(struct alk_loop *loop, const struct alk_proxy_url *url)
{
	struct proxy_kept *kept = url != NULL ? kept_of(loop) : alk_loop_kept(loop, &proxy_key);

	if (kept != NULL)
		kept->lent = url;
}

const struct alk_proxy_url *alk_proxy_get(const struct alk_loop *loop)
{
	const struct proxy_kept *kept = alk_loop_kept(loop, &proxy_key);

	if (kept != NULL && kept->lent != NULL)
		return kept->lent->kind != ALK_PROXY_NONE ? kept->lent : NULL;
	return kept != NULL && kept->url.kind != ALK_PROXY_NONE ? &kept->url : NULL;
}

static void complain(struct alk_loop *loop, const struct alk_err *err)
{
	struct proxy_kept *kept = kept_of(loop);
	uint64_t now = alk_loop_now(loop);

	if (kept == NULL || (kept->logged != 0 && now - kept->logged < COMPLAIN_MS))
		return;
	kept->logged = now;
	alk_log(ALK_LOG_WARN, "proxy failed", ALK_STR("reason", err->text));
}

int alk_proxy_unreachable(struct alk_loop *loop, int rc, struct alk_err *err)
{
	static const int same[] = {-ETIMEDOUT, -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM};
	int as = -EIO;

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		if (rc == same[i])
			as = rc;
	alk_err_prefix(err, as, "the proxy cannot be reached");
	complain(loop, err);
	return as;
}

void alk_proxy_silent(struct alk_loop *loop, const struct alk_err *err)
{
	complain(loop, err);
}

/* ---- talking ---- */

static void proxy_free(struct alk_proxy *proxy)
{
	alk_io_free(&proxy->io);
	alk_fd_close(&proxy->fd);
	explicit_bzero(proxy, sizeof(*proxy));
	free(proxy);
}

/* The talk is gone when `done` runs. */
static void proxy_finish(struct alk_proxy *proxy, int rc, const struct alk_err *err)
{
	alk_proxy_fn *done = proxy->done;
	void *user = proxy->user;
	struct alk_err why = *err;
	int fd = -1;

	if (rc == 0) {
		fd = proxy->fd;
		proxy->fd = -1;
	}
	proxy_free(proxy);
	done(user, rc, fd, &why);
}

static int proxy_write(struct alk_proxy *proxy)
{
	struct alk_proxy_wire *wire = &proxy->wire;

	while (proxy->sent < wire->out_len) {
		ssize_t n = send(proxy->fd, wire->out + proxy->sent, wire->out_len - proxy->sent,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		proxy->sent += (size_t)n;
	}
	explicit_bzero(wire->out, wire->out_len);
	wire->out_len = proxy->sent = 0;
	return 0;
}

/* What is behind the proxy's answer is the destination's and stays in the socket. 1 = there may be
 * more. */
static int proxy_read(struct alk_proxy *proxy)
{
	uint8_t bytes[PEEK];
	ssize_t n = recv(proxy->fd, bytes, sizeof(bytes), MSG_PEEK);
	size_t used;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0) {
		alk_proxy_wire_eof(&proxy->wire);
		return 1;
	}
	used = alk_proxy_wire_feed(&proxy->wire, bytes, (size_t)n);
	while (used > 0) {
		n = recv(proxy->fd, bytes, used, 0);
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		used -= (size_t)n;
	}
	return 1;
}

static void proxy_on_ready(void *user, int revents)
{
	static const struct alk_err none = {""};
	struct alk_proxy *proxy = user;
	struct alk_proxy_wire *wire = &proxy->wire;
	struct alk_err err;
	int rc = 0;

	assert(proxy->magic == PROXY_MAGIC);
	if (wire->out_len > 0)
		rc = proxy_write(proxy);
	else if ((revents & ALK_IO_READ) != 0)
		rc = proxy_read(proxy);
	if (rc >= 0 && wire->out_len > 0)
		rc = proxy_write(proxy);
	if (rc < 0) {
		alk_err_set(&err, rc, "the connection to the proxy broke: %s", strerror(-rc));
		proxy_finish(proxy, rc, &err);
	} else if (wire->state == ALK_PROXY_OPEN) {
		proxy_finish(proxy, 0, &none);
	} else if (wire->state == ALK_PROXY_FAILED) {
		if (wire->rc == -EKEYREJECTED || wire->rc == -EPROTO)
			complain(proxy->loop, &wire->err);
		proxy_finish(proxy, wire->rc, &wire->err);
	} else {
		alk_io_set(proxy->io, wire->out_len > 0 ? ALK_IO_WRITE : ALK_IO_READ);
	}
}

struct alk_proxy *alk_proxy_start(struct alk_loop *loop, int *fd, const struct alk_proxy_url *url,
				  const char *host, uint16_t port, alk_proxy_fn *done, void *user,
				  struct alk_err *err)
{
	struct alk_proxy *proxy = calloc(1, sizeof(*proxy));

	if (proxy == NULL) {
		alk_fd_close(fd);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	*proxy = (struct alk_proxy){.magic = PROXY_MAGIC,
				    .loop = loop,
				    .fd = *fd,
				    .url = *url,
				    .done = done,
				    .user = user};
	*fd = -1;
	proxy->io = alk_io_new(loop, proxy->fd, "proxy", proxy_on_ready, proxy);
	if (proxy->io == NULL)
		alk_err_set(err, -ENOMEM, "out of memory");
	if (proxy->io == NULL ||
	    alk_proxy_wire_init(&proxy->wire, &proxy->url, host, port, err) < 0) {
		proxy_free(proxy);
		return NULL;
	}
	alk_io_set(proxy->io, ALK_IO_WRITE);
	return proxy;
}

void alk_proxy_cancel(struct alk_proxy **proxy)
{
	if (*proxy == NULL)
		return;
	assert((*proxy)->magic == PROXY_MAGIC);
	proxy_free(*proxy);
	*proxy = NULL;
}
