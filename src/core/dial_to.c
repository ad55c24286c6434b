/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <string.h>

#include <alknet/service.h>
#include "dial_private.h"
#include "proxy.h"
#include "proxy_header.h"

struct alk_dial *alk_dial_tcp(struct alk_loop *loop, const char *host, uint16_t port,
			      const char *bind, uint64_t timeout_ms, alk_dial_fn *done, void *user,
			      struct alk_err *err)
{
	const struct alk_dial_how how = {.bind = bind != NULL ? bind : "",
					 .proxy = alk_proxy_get(loop)};

	return alk_dial_start(loop, host, port, &how, timeout_ms, done, user, err);
}

bool alk_dial_proxied(const struct alk_loop *loop)
{
	return alk_proxy_get(loop) != NULL;
}

struct alk_dial *alk_dial_to(struct alk_loop *loop, const struct alk_destination *to,
			     uint64_t timeout_ms, alk_dial_fn *done, void *user,
			     struct alk_err *err)
{
	struct alk_dial_how how = {.bind = to->bind, .proxy = alk_proxy_get(loop)};
	struct alk_proxy_url url;
	struct alk_dial *dial;

	if (to->path[0] != '\0')
		return alk_dial_unix(loop, to->path, timeout_ms, done, user, err);
	if (to->via[0] != '\0') {
		if (alk_proxy_url_parse(to->via, &url, err) < 0) {
			alk_err_prefix(err, -EINVAL, "via");
			return NULL;
		}
		how.proxy = url.kind != ALK_PROXY_NONE ? &url : NULL;
	}
	if (to->proxy_protocol)
		how.first_len = alk_proxy_header_make(how.first, to->remote_addr, to->remote_port,
						      to->local_addr, to->local_port);
	dial = alk_dial_start(loop, to->host, to->port, &how, timeout_ms, done, user, err);
	if (to->via[0] != '\0')
		explicit_bzero(&url, sizeof(url));
	return dial;
}
