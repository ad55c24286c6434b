/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_METRICS_HTTP_H
#define ALK_METRICS_HTTP_H

/* What `metrics_listen` serves: /metrics (Prometheus text), /livez and /readyz, over HTTP/1.1, on
 * the loop of the process whose metrics they are.
 *
 *   READING ──head──▶ WRITING ──all sent──▶ ENDING ──peer closed──▶ gone
 *      └───────────── 10 s in all, from the first to the last byte ────▶
 *
 * One request a connection. At most 64 connections: the oldest that is not answered yet makes room,
 * so that who only holds connections keeps nobody out. There is no authentication: it belongs on
 * loopback or on a network of the operator's own. */

#include <alknet/loop.h>
#include "metrics.h"

struct alk_metrics_http;

struct alk_metrics_http_ops {
	/* All metrics, as text. */
	void (*metrics)(void *user, struct alk_metrics_text *out);
	/* Why /readyz answers 503, in words without a line end; NULL: it answers 200. */
	const char *(*unready)(void *user);
};

/* Listen on `address` (HOST:PORT). *http stays NULL when it is NULL, "" or "none". Borrows the rest
 * for life. 0, or -errno with `err`. */
int alk_metrics_http_open(struct alk_metrics_http **http, struct alk_loop *loop,
			  const char *address, const struct alk_metrics_http_ops *ops, void *user,
			  struct alk_err *err);
/* Take no more connections, or take them again. `http` may be NULL. */
void alk_metrics_http_pause(struct alk_metrics_http *http, bool paused);
void alk_metrics_http_free(struct alk_metrics_http **http);
/* Where it listens, "HOST:PORT"; "" when it does not. */
const char *alk_metrics_http_address(const struct alk_metrics_http *http);

#endif
