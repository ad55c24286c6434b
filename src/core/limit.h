/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_LIMIT_H
#define ALK_LIMIT_H

/* Who may connect, decided at accept: links an address, start-ups in flight, sessions in all, and
 * penalties. No I/O and no clock here: the supervisor says what time it is.
 *
 * A link is counted from alk_limit_admit() to alk_limit_end(); it is a start-up in flight until
 * alk_limit_login() says that its session is authenticated. IPv6 addresses are counted by their
 * /64, which one host has all to itself; text that is no IP address (an endpoint id) counts as it
 * stands.
 *
 * Start here if you add a reason to refuse a link: a line in ALK_REFUSALS and a check in
 * alk_limit_admit(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

/* id, label in metrics and logs, what the limit is called. */
#define ALK_REFUSALS(X)                                                                            \
	X(BAN, "ban", "a ban")                                                                     \
	X(PENALTY, "penalty", "a penalty")                                                         \
	X(ADDRESS, "max_connections_per_ip", "max_connections_per_ip")                             \
	X(STARTUPS, "max_startups", "max_startups")                                                \
	X(HANDSHAKES, "max_handshakes", "max_handshakes")                                          \
	X(SESSIONS, "max_sessions", "max_sessions")                                                \
	X(PROXY, "proxy_protocol", "the PROXY header")                                             \
	X(KEY, "no_host_key", "a host key that is still to come")                                  \
	X(WORKER, "no_worker", "no worker that is ready")

enum alk_refusal {
	ALK_REFUSAL_NONE = 0,
#define X(id_, label_, text_) ALK_REFUSAL_##id_,
	ALK_REFUSALS(X)
#undef X
	ALK_REFUSAL_COUNT
};
const char *alk_refusal_str(enum alk_refusal why); /* the label */

/* 0 = no limit. */
struct alk_limit_conf {
	unsigned per_address;
	unsigned sessions;
	/* Start-ups in flight: from `start` on a link is refused with `rate` percent, more the more
	 * there are, and always from `full` on. A source that has less than its share, which is
	 * `start` divided by the number of sources that have some, is not: few sources cannot shut
	 * out the others. So there may be more than `full`, by `start` at most. */
	unsigned start, rate, full;
	unsigned handshakes; /* that may begin a second; as many at once at most */
};

struct alk_limit;

/* Copies conf. NULL when out of memory. */
struct alk_limit *alk_limit_new(const struct alk_limit_conf *conf);
void alk_limit_free(struct alk_limit **limits);
/* Other limits from now on; what is counted stays. */
void alk_limit_set(struct alk_limit *limits, const struct alk_limit_conf *conf);
/* May one more link from `addr` come? ALK_REFUSAL_NONE: it is counted, as a start-up. Out of memory
 * refuses. */
enum alk_refusal alk_limit_admit(struct alk_limit *limits, const char *addr);
/* Would it be refused for certain, with `waiting` others from `addr` that are not counted yet? Then
 * it needs not wait to hear it. */
enum alk_refusal alk_limit_foresee(struct alk_limit *limits, const char *addr, size_t waiting);
/* A counted link is authenticated. Once for each, at most. */
void alk_limit_login(struct alk_limit *limits, const char *addr);
/* THREATS 5: a handshake costs a millisecond or two, whoever asks for it. One begins. */
void alk_limit_begin(struct alk_limit *limits, uint64_t now);
/* Milliseconds until the next may; 0 = at once. Links wait so long, in turns (turns.h). */
uint64_t alk_limit_wait(struct alk_limit *limits, uint64_t now);
/* A link was refused; a refusal costs some 25 us of processor, mostly the kernel's. Milliseconds
 * for which none should be accepted, so that a flood gets no more than ALK_LIMIT_REFUSALS a second;
 * 0 = go on. */
#define ALK_LIMIT_REFUSALS 10000
uint64_t alk_limit_refused(struct alk_limit *limits, uint64_t now);
/* A counted link is gone; `authenticated`: alk_limit_login() was called for it. */
void alk_limit_end(struct alk_limit *limits, const char *addr, bool authenticated);
unsigned alk_limit_links(const struct alk_limit *limits);
/* Those that are not authenticated. */
unsigned alk_limit_startups(const struct alk_limit *limits);
/* Percent of links that are refused with `startups` in flight, of sources that have their share. */
unsigned alk_limit_drop_rate(const struct alk_limit_conf *conf, unsigned startups);

/* What an address is counted as: itself, or its /64. */
void alk_limit_key(const char *addr, char *key, size_t size);

#endif
