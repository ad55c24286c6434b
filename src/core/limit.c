/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define BUCKETS_MIN 64
#define KEY_MAX 64
#define REFUSING_MS 20 /* over which refusals are counted */

struct source {
	struct source *next;
	unsigned links, startups;
	char key[KEY_MAX];
};

struct alk_limit {
	struct alk_limit_conf conf;
	unsigned links, startups;
	unsigned starting;	    /* sources that have start-ups */
	uint64_t tokens, filled_at; /* handshakes that may begin, in thousandths; loop time, ms */
	uint64_t refusing_since;
	unsigned refused; /* since then */
	struct source **bucket;
	size_t buckets, sources;
	uint64_t seed, random;
};

static const char *const refusal_label[ALK_REFUSAL_COUNT] = {[ALK_REFUSAL_NONE] = "none",
#define X(id_, label_, text_) [ALK_REFUSAL_##id_] = (label_),
							     ALK_REFUSALS(X)
#undef X
};

const char *alk_refusal_str(enum alk_refusal why)
{
	return refusal_label[why];
}

static uint64_t seed_random(void)
{
	uint64_t seed = 0;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed)) {
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		seed = (uint64_t)ts.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)ts.tv_sec;
	}
	return seed | 1;
}

struct alk_limit *alk_limit_new(const struct alk_limit_conf *conf)
{
	struct alk_limit *limits = calloc(1, sizeof(*limits));

	if (limits == NULL)
		return NULL;
	limits->conf = *conf;
	limits->seed = seed_random();
	limits->random = seed_random();
	limits->buckets = BUCKETS_MIN;
	limits->bucket = calloc(limits->buckets, sizeof(*limits->bucket));
	if (limits->bucket == NULL)
		alk_limit_free(&limits);
	return limits;
}

void alk_limit_set(struct alk_limit *limits, const struct alk_limit_conf *conf)
{
	limits->conf = *conf;
}

void alk_limit_free(struct alk_limit **limitsp)
{
	struct alk_limit *limits = *limitsp;

	*limitsp = NULL;
	if (limits == NULL)
		return;
	for (size_t i = 0; limits->bucket != NULL && i < limits->buckets; i++) {
		while (limits->bucket[i] != NULL) {
			struct source *source = limits->bucket[i];

			limits->bucket[i] = source->next;
			free(source);
		}
	}
	free(limits->bucket);
	free(limits);
}

void alk_limit_key(const char *addr, char *key, size_t size)
{
	struct in6_addr in6;
	char net[INET6_ADDRSTRLEN];
	char plain[INET6_ADDRSTRLEN];
	size_t n;

	if (strchr(addr, ':') == NULL)
		goto as_it_stands;
	n = strcspn(addr, "%"); /* fe80::1%eth0 */
	if (n >= sizeof(plain))
		goto as_it_stands;
	memcpy(plain, addr, n);
	plain[n] = '\0';
	if (inet_pton(AF_INET6, plain, &in6) != 1)
		goto as_it_stands;
	memset(&in6.s6_addr[8], 0, 8);
	snprintf(key, size, "%s/64", inet_ntop(AF_INET6, &in6, net, sizeof(net)));
	return;
as_it_stands:
	n = strnlen(addr, size - 1);
	memcpy(key, addr, n);
	key[n] = '\0';
}

/* FNV-1a with a secret start, so that nobody can choose addresses that share a bucket. */
static size_t bucket_of(const struct alk_limit *limits, const char *key)
{
	uint64_t h = limits->seed ^ 0xcbf29ce484222325u;

	for (; *key != '\0'; key++)
		h = (h ^ (uint8_t)*key) * 0x100000001b3u;
	h ^= h >> 32;
	return (size_t)h & (limits->buckets - 1);
}

static struct source **source_find(struct alk_limit *limits, const char *key)
{
	struct source **at = &limits->bucket[bucket_of(limits, key)];

	while (*at != NULL && strcmp((*at)->key, key) != 0)
		at = &(*at)->next;
	return at;
}

/* Twice the buckets; without memory the chains get longer, no more. */
static void buckets_grow(struct alk_limit *limits)
{
	size_t old = limits->buckets;
	struct source **from = limits->bucket;
	struct source **bucket = calloc(old * 2, sizeof(*bucket));

	if (bucket == NULL)
		return;
	limits->bucket = bucket;
	limits->buckets = old * 2;
	for (size_t i = 0; i < old; i++) {
		while (from[i] != NULL) {
			struct source *source = from[i];
			size_t b = bucket_of(limits, source->key);

			from[i] = source->next;
			source->next = bucket[b];
			bucket[b] = source;
		}
	}
	free(from);
}

unsigned alk_limit_drop_rate(const struct alk_limit_conf *conf, unsigned startups)
{
	if (conf->full == 0 || startups < conf->start)
		return 0;
	if (startups >= conf->full || conf->rate == 100)
		return 100;
	return conf->rate +
	       (100 - conf->rate) * (startups - conf->start) / (conf->full - conf->start);
}

/* Has a source with `mine` start-ups got its share? */
static bool share_is_used(const struct alk_limit *limits, unsigned mine)
{
	unsigned sources = limits->starting + (mine == 0);

	return limits->startups >= limits->conf.full + limits->conf.start ||
	       mine >= limits->conf.start / sources;
}

static bool startup_dropped(struct alk_limit *limits, unsigned mine)
{
	unsigned rate = alk_limit_drop_rate(&limits->conf, limits->startups);

	if (rate == 0 || !share_is_used(limits, mine))
		return false;
	if (rate == 100)
		return true;
	limits->random ^= limits->random << 13;
	limits->random ^= limits->random >> 7;
	limits->random ^= limits->random << 17;
	return (limits->random >> 11) % 100 < rate;
}

static bool sessions_full(const struct alk_limit *limits)
{
	return limits->conf.sessions != 0 && limits->links >= limits->conf.sessions;
}

static bool address_full(const struct alk_limit *limits, const struct source *source,
			 size_t waiting)
{
	return limits->conf.per_address != 0 &&
	       (source != NULL ? source->links : 0) + waiting >= limits->conf.per_address;
}

enum alk_refusal alk_limit_foresee(struct alk_limit *limits, const char *addr, size_t waiting)
{
	const struct source *source;
	char key[KEY_MAX];

	if (sessions_full(limits))
		return ALK_REFUSAL_SESSIONS;
	alk_limit_key(addr, key, sizeof(key));
	source = *source_find(limits, key);
	if (address_full(limits, source, waiting))
		return ALK_REFUSAL_ADDRESS;
	return alk_limit_drop_rate(&limits->conf, limits->startups) == 100 &&
			       share_is_used(limits, source != NULL ? source->startups : 0)
		       ? ALK_REFUSAL_STARTUPS
		       : ALK_REFUSAL_NONE;
}

enum alk_refusal alk_limit_admit(struct alk_limit *limits, const char *addr)
{
	struct source **at, *source;
	char key[KEY_MAX];

	if (sessions_full(limits))
		return ALK_REFUSAL_SESSIONS;
	alk_limit_key(addr, key, sizeof(key));
	at = source_find(limits, key);
	source = *at;
	if (address_full(limits, source, 0))
		return ALK_REFUSAL_ADDRESS;
	if (startup_dropped(limits, source != NULL ? source->startups : 0))
		return ALK_REFUSAL_STARTUPS;
	if (source == NULL) {
		source = calloc(1, sizeof(*source));
		if (source == NULL)
			return ALK_REFUSAL_SESSIONS;
		memcpy(source->key, key, sizeof(key));
		*at = source;
		if (++limits->sources > limits->buckets)
			buckets_grow(limits);
	}
	source->links++;
	limits->links++;
	limits->startups++;
	limits->starting += source->startups++ == 0;
	return ALK_REFUSAL_NONE;
}

static void startup_over(struct alk_limit *limits, struct source *source)
{
	limits->startups--;
	limits->starting -= --source->startups == 0;
}

void alk_limit_login(struct alk_limit *limits, const char *addr)
{
	char key[KEY_MAX];

	alk_limit_key(addr, key, sizeof(key));
	startup_over(limits, *source_find(limits, key));
}

void alk_limit_end(struct alk_limit *limits, const char *addr, bool authenticated)
{
	struct source **at, *source;
	char key[KEY_MAX];

	alk_limit_key(addr, key, sizeof(key));
	at = source_find(limits, key);
	source = *at;
	if (!authenticated)
		startup_over(limits, source);
	limits->links--;
	if (--source->links > 0)
		return;
	*at = source->next;
	free(source);
	limits->sources--;
}

/* Handshakes: a token each, a second's worth at most. */

static void tokens_fill(struct alk_limit *limits, uint64_t now)
{
	uint64_t full = (uint64_t)limits->conf.handshakes * 1000;

	limits->tokens += (now - limits->filled_at) * limits->conf.handshakes;
	if (limits->filled_at == 0 || limits->tokens > full)
		limits->tokens = full;
	limits->filled_at = now;
}

void alk_limit_begin(struct alk_limit *limits, uint64_t now)
{
	if (limits->conf.handshakes == 0)
		return;
	tokens_fill(limits, now);
	limits->tokens -= limits->tokens < 1000 ? limits->tokens : 1000;
}

uint64_t alk_limit_wait(struct alk_limit *limits, uint64_t now)
{
	uint64_t rate = limits->conf.handshakes;

	if (rate == 0)
		return 0;
	tokens_fill(limits, now);
	/* Then several at once, so that a flood does not wake us for each. */
	return limits->tokens >= 1000 ? 0
				      : ((rate / 20 + 1) * 1000 - limits->tokens + rate - 1) / rate;
}

uint64_t alk_limit_refused(struct alk_limit *limits, uint64_t now)
{
	if (now - limits->refusing_since >= REFUSING_MS) {
		limits->refusing_since = now;
		limits->refused = 0;
	}
	return ++limits->refused < ALK_LIMIT_REFUSALS * REFUSING_MS / 1000
		       ? 0
		       : limits->refusing_since + REFUSING_MS - now;
}

unsigned alk_limit_links(const struct alk_limit *limits)
{
	return limits->links;
}

unsigned alk_limit_startups(const struct alk_limit *limits)
{
	return limits->startups;
}
