/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CTL_H
#define ALK_CTL_H

/* The control socket between the supervisor and one worker: framed messages over a stream socketpair,
 * each optionally with one fd. With `workers = 0` both ends are on one loop in one process and speak
 * the same messages.
 *
 * Frame: u32 length (host order: one machine), u32 flags (1 = an fd rides on the first byte, 2 = a plugin's
 * bytes behind its name of 16, 4 = links), then one JSON object, or those bytes, or up to ALK_CTL_LINKS links, each with an
 * fd (struct alk_ctl_link: both ends are the same program, and links may come by the thousand). At most 16 MiB (the start message carries file contents). `op` names it:
 *
 *   supervisor → worker
 *     shared   {}                                         before start; the fd is the policies' dictionary (shared.h)
 *     start    {conf, index, generation, plugin_dir, unloaded: [plugin's name]}   first; the fd is the board (board.h)
 *     (a link) number, transport, remote_addr, remote_port, local_addr, local_port, alpn, peer_id
 *              the fd is the raw link; when it did not come (the worker is out of descriptors)
 *              the answer is `end`
 *     local    {link:u64, service, uid}                   a connection at a service's local socket; the fd is it;
 *              the answer is as to a link
 *     request  {id:u64, method, params}                   an admin command that sessions answer
 *     watch    {on:bool}                                  send `event` messages or not
 *     path     {link:u64, path, path_via, rtt}            which way its bytes go, for people
 *     penalty  {identity?, remote_addr?, seconds}         refuse logins of these for so long
 *     loglevel {level}
 *     remote   {session, port, host, identity, on:bool}   a remote listener of another worker
 *     remote_drop {session, port, host}                   close this one: its identity wants the port elsewhere
 *     revoked  {name?, content?}                          revoked_keys as a reload read it, base64: sessions of earlier
 *              generations are judged by it too (recheck_certificates); without content nothing is revoked
 *     drain    {timeout_ms}                               take no new links; leave when the last session ended
 *     stop     {}                                         disconnect all, flush for at most 2 s, exit 0
 *   worker → supervisor
 *     ready    {pid}                  started, privileges dropped
 *     failed   {error, status}        cannot start; exits with status after it: 2 when the configuration is wrong, 1 otherwise
 *     login    {link}                 its session is authenticated: no start-up any more; most are told on the board
 *     misdeed  {link, what}           what it did wrong before that (misdeed.h); `end` follows
 *     end      {link}                 this link is gone; most are told on the board (alk_board_end) instead
 *     ended    {}                     look at the board for such
 *     reply    {id, result | error:{code,message}}
 *     event    {event, ...}           for watch: session.open, session.close, auth, channel.open, ...
 *     remote   {session, port, host, identity, address, on:bool}   a remote listener came or went
 *     remote_want {session, port, host, identity}         close the one that another worker has of this identity there
 *     drained  {}                     no session is left
 */

#include <jansson.h>
#include <alknet/loop.h>
#include <alknet/transport.h>

struct alk_ctl;

#define ALK_CTL_LINKS 32
/* What goes over of a link besides its fd. */
struct alk_ctl_link {
	uint64_t number;
	uint16_t remote_port, local_port;
	char transport[16], remote_addr[64], local_addr[64], alpn[32], peer_id[80];
};

struct alk_ctl_ops {
	/* `message` is borrowed; `fd` is -1 or taken. */
	void (*message)(void *user, struct alk_ctl *ctl, json_t *message, int fd);
	/* What a plugin's other half says. `name` and `bytes` are borrowed and wiped after the
	 * call. */
	void (*bytes)(void *user, struct alk_ctl *ctl, const char *name, const uint8_t *bytes,
		      size_t n);
	/* Takes link->fd, which is -1 when it did not come; the rest is good for the call alone.
	 * NULL: none is expected. */
	void (*link)(void *user, struct alk_ctl *ctl, uint64_t number, struct alk_link *link);
	/* The other end is gone (rc 0) or broken (-errno). Called once. */
	void (*closed)(void *user, struct alk_ctl *ctl, int rc);
};

/* Takes *fd (a SOCK_STREAM unix socket). NULL with `err`; then *fd is closed too. */
struct alk_ctl *alk_ctl_new(struct alk_loop *loop, int *fd, const struct alk_ctl_ops *ops,
			    void *user, struct alk_err *err);
void alk_ctl_free(struct alk_ctl **ctl);
/* Queue a message; takes the reference `message` and, on success and on failure, *fd if not NULL.
 * Returns 0, -ENOBUFS when more than 64 MiB wait (the other end is stuck: the caller treats it as
 * dead), -EPIPE. */
int alk_ctl_send(struct alk_ctl *ctl, json_t *message, int *fd);
/* The same for the bytes of a plugin. Copies them; what waits is wiped once it was sent. -EMSGSIZE
 * too. */
int alk_ctl_send_bytes(struct alk_ctl *ctl, const char *name, const void *bytes, size_t n);
/* The same for a link, which goes at the end of the loop's turn, together with others of it, but
 * before any other message. Takes link->fd, also on failure. */
int alk_ctl_send_link(struct alk_ctl *ctl, uint64_t number, struct alk_link *link);
/* Bytes waiting to be sent. */
size_t alk_ctl_pending(const struct alk_ctl *ctl);

#endif
