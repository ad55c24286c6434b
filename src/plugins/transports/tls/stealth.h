/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_TLS_STEALTH_H
#define ALKNET_TLS_STEALTH_H

/* What a port with `stealth` is to the world: Debian 12's nginx 1.22.1 with `return 404`.
 *
 * A pure state machine over bytes, one a connection: no socket, no clock, no OpenSSL. tls_site.c
 * drives it and does to the connection what it says. All calls come from there; a hook may be
 * called from inside of any of them and must not call back, but stealth_free() may follow as soon
 * as the call returned.
 *
 *   accept                   stealth_new         the 60 s of a connection that says nothing begin
 *   first byte no handshake  stealth_begin(plain)  HTTP, spoken without TLS from here on
 *   handshake done           stealth_begin(tls)
 *   bytes                    stealth_input ─▶ MORE | OURS | UPSTREAM | HTTP | DONE
 *   the peer sends no more   stealth_eof
 *   all output was written   stealth_written
 *   the timer rang           stealth_timeout
 *
 *        ┌──────────── JUDGING ────────────┐ first byte that cannot be ours
 *   OURS ◀─ all that makes it ours   UPSTREAM (if there is one)   HTTP ──hooks.close──▶ DONE
 *
 * Nothing of it depends on when bytes come, but for `ready`: the same bytes in other pieces give
 * the same answer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STEALTH_TOKEN_LEN 43 /* base64url of 32 bytes, no padding */

enum stealth_state {
	STEALTH_JUDGING, /* may still be ours; nothing was or will be answered before that is settled */
	STEALTH_OURS, /* SSH: what stealth_rest() gives comes first. No more calls but stealth_free */
	STEALTH_UPSTREAM, /* not ours, a web server is behind: stealth_rest() gives all that came. As above */
	STEALTH_HTTP, /* not ours: answered here */
	STEALTH_DONE, /* hooks.close was called: no more input */
};

enum stealth_close {
	STEALTH_CLOSE_NOTIFY, /* close_notify, then close() */
	STEALTH_CLOSE_QUIET,  /* close() alone */
	/* close_notify, FIN, then what still comes is read and thrown away, without looking into
	 * it, until the peer's FIN, for at most `linger_idle` without a byte and `linger_all`
	 * altogether; then close() */
	STEALTH_CLOSE_LINGER,
};

/* Times in ms: nginx's, divided by a scale in tests. */
struct stealth_times {
	unsigned header, body, keepalive, send, linger_idle, linger_all;
};
extern const struct stealth_times stealth_times; /* as nginx has them */

struct stealth_settings {
	/* Keyed: the first request's path has to be / and these 43 characters. Else `SSH-2.0-` is
	 * ours. The driver sets it before stealth_begin(tls): it is made of the TLS connection.
	 * Compared in constant time. */
	bool keyed;
	char token[STEALTH_TOKEN_LEN + 1];
	bool upstream; /* what is not ours is somebody else's to answer */
	const struct stealth_times *times;
};

struct stealth_hooks {
	/* Write this, all of it, in one TLS record if it fits (16 KiB). Copies what cannot be
	 * written now. Until stealth_written no input is given. At most 64 KiB between two of
	 * those. */
	void (*write)(void *user, const void *bytes, size_t n);
	/* Ring in `ms` from now, once; it replaces the one before. 0: not at all. Also while output
	 * is waiting. */
	void (*timer)(void *user, uint64_t ms);
	/* When all that was written is out, end the connection like this. Once; the last hook of
	 * all. */
	void (*close)(void *user, enum stealth_close how);
	/* For the Date header: seconds since 1970. */
	int64_t (*clock)(void *user);
	void *user;
};

struct stealth;

/* At accept. Copies both. NULL: out of memory. */
struct stealth *stealth_new(const struct stealth_settings *settings,
			    const struct stealth_hooks *hooks);
void stealth_free(struct stealth **stealth);

/* Bytes may come now: of the TLS connection, or of plain TCP, which is never ours (nginx reads such
 * a request and says that it came to an HTTPS port). `token` is NULL unless keyed. */
void stealth_begin(struct stealth *stealth, bool plain, const char *token);

/* It has waited long enough: this will not be ours, whatever comes. With an upstream it is JUDGING
 * until something does. */
void stealth_refuse(struct stealth *stealth);

/* How many bytes it would read now; the driver reads no more than that from the TLS connection, and
 * nothing when it is 0. What nginx leaves unread is left unread here too: it decides between FIN
 * and RST. */
size_t stealth_room(const struct stealth *stealth);

/* `n` bytes came, 1..room. `ready`: the read was not cut short, so there may be more (nginx's
 * read->ready, which decides about lingering). After a `ready` one the driver reads again at once
 * and says so too if there was nothing, with n = 0: nginx looks at all of a body that is there
 * before it answers. */
enum stealth_state stealth_input(struct stealth *stealth, const void *bytes, size_t n, bool ready);

/* close_notify or FIN came; or the connection broke (then `broken`: nothing can be written any
 * more). */
enum stealth_state stealth_eof(struct stealth *stealth, bool broken);

/* What hooks.write was given is out. May go on with a request that has come already. */
enum stealth_state stealth_written(struct stealth *stealth);

enum stealth_state stealth_timeout(struct stealth *stealth);

enum stealth_state stealth_state(const struct stealth *stealth);

/* OURS: what came behind the key, or from `SSH-2.0-` on. UPSTREAM: all that came. Borrowed until
 * stealth_free. */
const void *stealth_rest(const struct stealth *stealth, size_t *n);

#endif
