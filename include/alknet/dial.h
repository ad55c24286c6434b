/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_DIAL_H
#define ALKNET_DIAL_H

/* Connecting somewhere: names by c-ares, addresses by Happy Eyeballs (RFC 8305: resolution of A and
 * AAAA side by side, interleaved families, 250 ms between attempts, first to answer wins), one
 * deadline over all. Also unix sockets, and through proxies. The fd that is given is connected,
 * non-blocking, close-on-exec, TCP_NODELAY. Nothing blocks. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <alknet/err.h>
#include <alknet/loop.h>

struct alk_resolver; /* one a process: a c-ares channel on a loop */
/* Gives; NULL with `err`. One a process is enough: alk_resolver_of(). */
ALK_EXPORT struct alk_resolver *alk_resolver_new(struct alk_loop *loop, struct alk_err *err);
ALK_EXPORT void alk_resolver_free(struct alk_resolver **resolver);
/* The process's resolver on `loop`, made at first use, freed with the loop. */
ALK_EXPORT struct alk_resolver *alk_resolver_of(struct alk_loop *loop, struct alk_err *err);

struct alk_dial;

/* Runs exactly once, from the loop, never before the call returned. rc 0: takes `fd`. Else fd is -1
 * and rc says why: -ENOENT (no such name, no such unix socket), -EREMOTEIO (the name server
 * failed), -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH, -ENETUNREACH, -EMFILE, -EACCES (a proxy's
 * rules), -EKEYREJECTED (it wants other credentials), -EIO (it is not there), other -errno. Where
 * addresses failed in different ways it is what tells most: refused, then unreachable, then timed
 * out. `err` has the sentence; it does not name the destination, so that it can be logged. */
typedef void alk_dial_fn(void *user, int rc, int fd, const struct alk_err *err);

/* Connect to host:port. `host` is a name, an IPv4 or an IPv6 address (no brackets, a zone behind %
 * is taken); it is borrowed for the call alone. `bind` may be NULL, "" or the local numeric address
 * to use; then addresses of the other family are left out. `timeout_ms` covers all of it. At most
 * 16 addresses are tried. Where the program has a proxy (the option `proxy`) it is that which is
 * connected to, and it resolves `host`. Gives a handle to cancel with; NULL with `err` when out of
 * memory, or when `host` or `bind` cannot be one. */
ALK_EXPORT struct alk_dial *alk_dial_tcp(struct alk_loop *loop, const char *host, uint16_t port,
					 const char *bind, uint64_t timeout_ms, alk_dial_fn *done,
					 void *user, struct alk_err *err);
/* Does a dial on this loop go through the program's proxy? ABI 1.5. */
ALK_EXPORT bool alk_dial_proxied(const struct alk_loop *loop);
/* Connect to a destination, as whoever decided wants it: its unix socket, or its host and port,
 * from `bind`, through the proxy `via`, and with a PROXY header in front. Borrows `to` for the call
 * alone. Gives as alk_dial_tcp() does. */
struct alk_destination; /* alknet/service.h */
ALK_EXPORT struct alk_dial *alk_dial_to(struct alk_loop *loop, const struct alk_destination *to,
					uint64_t timeout_ms, alk_dial_fn *done, void *user,
					struct alk_err *err);
/* Connect to a unix socket. Borrows `path` for the call alone; gives as alk_dial_tcp() does. */
ALK_EXPORT struct alk_dial *alk_dial_unix(struct alk_loop *loop, const char *path,
					  uint64_t timeout_ms, alk_dial_fn *done, void *user,
					  struct alk_err *err);
/* Then `done` does not run. Takes and clears the handle; a handle is dead once `done` began. */
ALK_EXPORT void alk_dial_cancel(struct alk_dial **dial);

/* Split "HOST:PORT", "[V6]:PORT" or ":PORT". `host` gets no brackets. -EINVAL with `err` naming
 * what is wrong. `port` may be 0 only when `zero_ok`. */
ALK_EXPORT int alk_addr_split(const char *text, char *host, size_t size, uint16_t *port,
			      bool zero_ok, struct alk_err *err);
/* Numeric text and port of a socket address; v4-mapped IPv6 is shown as IPv4; "unix" for
 * AF_UNIX. */
ALK_EXPORT void alk_addr_format(const struct sockaddr *sa, socklen_t len, char *host, size_t size,
				uint16_t *port);

#endif
