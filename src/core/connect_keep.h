/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_CONNECT_KEEP_H
#define ALK_CONNECT_KEEP_H

/* Keeps a session to the server: begins one, and another when it ends, for ever.
 *
 *   CONNECTING ─up─▶ UP ─ended─▶ WAITING ─time─▶ CONNECTING
 *     │  │  └──────failed, not the first──▶┘
 *     │  └─the first one failed─▶ `over`
 *     └─ and from each of them: alk_keep_stop ─▶ STOPPING ─▶ `over`
 *
 * Waits: 1 s, 2 s, 4 s ... 30 s, each shortened by up to a quarter; a session that stood for 10 s
 * begins with 1 s again. No longer than 1 s while an application waits (alk_keep_wanted). 60 s
 * after the server refused our key or showed a host key that is not the known one: that does not
 * mend itself in seconds, and each attempt counts against us at the server. None at all after the
 * process missed as much time as makes a peer dead (suspend.h), or when asked to (alk_keep_again).
 *
 * One line on stderr for each change: the session ended, is up again, or the reason why it is not
 * changes. */

#include "client.h"

struct alk_keep;

enum alk_keep_state {
	ALK_KEEP_WAITING,
	ALK_KEEP_CONNECTING,
	ALK_KEEP_UP,
	ALK_KEEP_STOPPING,
};
const char *alk_keep_state_str(enum alk_keep_state state);

struct alk_keep_ops {
	/* A session is up: the first, or another one. */
	void (*up)(void *user, bool first);
	/* Does an application wait for a session? May be NULL: none does. */
	bool (*waited_for)(void *user);
	/* The session has ended, or (`was_up` false) another could not be begun. Begin another? May
	 * be NULL: yes. */
	bool (*again)(void *user, bool was_up, const struct alk_err *err);
	/* There will be no other session. rc 0: stopped; else the first one failed, or `once` and
	 * it ended, and `err` says why. Once, from the loop. */
	void (*over)(void *user, int rc, const struct alk_err *err);
};

/* Borrows loop and conf for life. `once`: the end of the session is the end. Gives the keeper; NULL
 * with `err`. The identity is read now (passphrase asked here). */
struct alk_keep *alk_keep_new(struct alk_loop *loop, struct alk_conf *conf, bool once,
			      const struct alk_keep_ops *ops, void *user, struct alk_err *err);
void alk_keep_free(struct alk_keep **keep);
/* Begin the first session. 0; -errno with `err`, then `over` does not run. */
int alk_keep_start(struct alk_keep *keep, struct alk_err *err);
/* End for good; `over` follows, from the loop or before this returns. */
void alk_keep_stop(struct alk_keep *keep);
/* A new session now: ends the one that is up, or the wait. */
void alk_keep_again(struct alk_keep *keep);
/* An application begins to wait for a session. */
void alk_keep_wanted(struct alk_keep *keep);

struct alk_client *alk_keep_client(struct alk_keep *keep); /* borrowed, for the keeper's life */

struct alk_keep_info {
	enum alk_keep_state state;
	double since;	     /* seconds that it has been in it */
	double next;	     /* seconds until the next attempt; WAITING alone */
	uint64_t reconnects; /* sessions after the first */
	uint64_t failures;   /* attempts that failed */
	const char *reason;  /* why there is no session, or why the last one ended; "" = none did */
};
void alk_keep_get_info(const struct alk_keep *keep, struct alk_keep_info *info);

/* A line for who looks at the terminal, from the loop: "alknet: " and more. Whoever holds up our
 * stderr must not hold up the tunnel: then the line is lost, status shows the state all the same.
 * In another program's loop it is logged. */
void alk_keep_say(const struct alk_loop *loop, const char *fmt, ...) ALK_PRINTF(2, 3);

#endif
