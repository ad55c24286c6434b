/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "policy_private.h"
#include "shared.h"
#include "siphash.h"

/* What a policy remembers outside of its own variables: alknet.shared (all workers) and
 * alknet.limit (this worker). */

/* ---- alknet.shared ---- */

static const char *check_key(lua_State *L, size_t *len)
{
	const char *key = luaL_checklstring(L, 1, len);

	luaL_argcheck(L, *len > 0 && *len <= ALK_SHARED_KEY_MAX, 1, "a key has 1 to 128 bytes");
	return key;
}

/* Made at its first use where nobody gave one: tests, `alknet policy eval`. */
static struct alk_shared *shared_of(lua_State *L)
{
	struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);
	struct alk_err err = {.text = ""};

	if (box->shared)
		return box->shared;
	box->own_shared = box->shared = alk_shared_new(&err);
	if (!box->shared)
		luaL_error(L, "%s", err.text);
	return box->shared;
}

static uint64_t store_now(lua_State *L)
{
	const struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);

	if (box->given_now > 0)
		return (uint64_t)(box->given_now * 1000);
	return alk_policy_clock() / 1000000;
}

/* Seconds from now, as a time; nil: never. */
static uint64_t check_expires(lua_State *L, int arg, uint64_t now)
{
	lua_Number seconds;

	if (lua_isnoneornil(L, arg))
		return 0;
	seconds = luaL_checknumber(L, arg);
	luaL_argcheck(L, seconds > 0 && seconds <= 1e9, arg, "not a number of seconds");
	return now + (uint64_t)ceil(seconds * 1000);
}

static int store_failed(lua_State *L, int rc)
{
	lua_pushnil(L);
	switch (rc) {
	case -ENOSPC:
		lua_pushliteral(L, "full");
		break;
	case -EINVAL:
		lua_pushliteral(L, "not a whole number");
		break;
	case -ERANGE:
		lua_pushliteral(L, "out of range");
		break;
	default:
		lua_pushliteral(L, "busy");
		break;
	}
	return 2;
}

int alk_api_shared_get(lua_State *L)
{
	struct alk_shared_value value;
	size_t len;
	const char *key = check_key(L, &len);
	int rc = alk_shared_get(shared_of(L), key, len, store_now(L), &value);

	if (rc == -ENOENT) {
		lua_pushnil(L);
		return 1;
	}
	if (rc < 0)
		return store_failed(L, rc);
	if (value.type == ALK_SHARED_TEXT)
		lua_pushlstring(L, value.text, value.len);
	else if (value.type == ALK_SHARED_FLOAT)
		lua_pushnumber(L, value.number);
	else if (value.type == ALK_SHARED_INT)
		lua_pushinteger(L, value.integer);
	else
		lua_pushboolean(L, value.integer != 0);
	return 1;
}

static void check_value(lua_State *L, int arg, struct alk_shared_value *value)
{
	const char *text;

	switch (lua_type(L, arg)) {
	case LUA_TBOOLEAN:
		value->type = ALK_SHARED_BOOL;
		value->integer = lua_toboolean(L, arg);
		return;
	case LUA_TNUMBER:
		value->type = lua_isinteger(L, arg) ? ALK_SHARED_INT : ALK_SHARED_FLOAT;
		value->integer = lua_isinteger(L, arg) ? lua_tointeger(L, arg) : 0;
		value->number = lua_tonumber(L, arg);
		return;
	case LUA_TSTRING:
		value->type = ALK_SHARED_TEXT;
		text = lua_tolstring(L, arg, &value->len);
		luaL_argcheck(L, value->len <= ALK_SHARED_TEXT_MAX, arg, "longer than 344 bytes");
		memcpy(value->text, text, value->len);
		return;
	default:
		luaL_argerror(L, arg, "a text, a number or a boolean expected");
	}
}

int alk_api_shared_set(lua_State *L)
{
	struct alk_shared_value value = {.type = ALK_SHARED_NONE};
	size_t len;
	const char *key = check_key(L, &len);
	uint64_t now = store_now(L), expires = check_expires(L, 3, now);
	int rc;

	check_value(L, 2, &value);
	rc = alk_shared_set(shared_of(L), key, len, now, expires, &value);
	if (rc < 0)
		return store_failed(L, rc);
	lua_pushboolean(L, 1);
	return 1;
}

int alk_api_shared_incr(lua_State *L)
{
	size_t len;
	const char *key = check_key(L, &len);
	lua_Integer by = luaL_optinteger(L, 2, 1);
	uint64_t now = store_now(L), expires = check_expires(L, 3, now);
	int64_t sum;
	int rc = alk_shared_add(shared_of(L), key, len, now, expires, by, &sum);

	if (rc < 0)
		return store_failed(L, rc);
	lua_pushinteger(L, sum);
	return 1;
}

int alk_api_shared_delete(lua_State *L)
{
	size_t len;
	const char *key = check_key(L, &len);
	int rc = alk_shared_delete(shared_of(L), key, len, store_now(L));

	if (rc < 0 && rc != -ENOENT)
		return store_failed(L, rc);
	lua_pushboolean(L, rc == 0);
	return 1;
}

/* ---- alknet.limit ---- */

#define BUCKETS 4096u /* power of two */
#define NO_BUCKET UINT32_MAX

/* A key is known by its hash: with a secret of 128 bits nobody can make two that are equal. */
struct bucket {
	uint64_t hash, at; /* ms */
	double tokens;
	uint32_t next;	       /* of the chain */
	uint32_t older, newer; /* by use */
};

struct alk_limiter {
	uint64_t secret[2];
	uint32_t used, oldest, newest;
	uint32_t chain[BUCKETS];
	struct bucket bucket[BUCKETS];
};

static struct alk_limiter *limiter_of(lua_State *L)
{
	struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);
	struct alk_limiter *limiter = box->limiter;

	if (limiter)
		return limiter;
	limiter = malloc(sizeof(*limiter));
	if (!limiter ||
	    getrandom(limiter->secret, sizeof(limiter->secret), 0) != sizeof(limiter->secret)) {
		free(limiter);
		luaL_error(L, "not enough memory");
		return NULL;
	}
	limiter->used = 0;
	limiter->oldest = limiter->newest = NO_BUCKET;
	memset(limiter->chain, 0xff, sizeof(limiter->chain));
	box->limiter = limiter;
	return limiter;
}

static void use_unlink(struct alk_limiter *l, uint32_t i)
{
	const struct bucket *b = &l->bucket[i];

	*(b->older == NO_BUCKET ? &l->oldest : &l->bucket[b->older].newer) = b->newer;
	*(b->newer == NO_BUCKET ? &l->newest : &l->bucket[b->newer].older) = b->older;
}

static void use_newest(struct alk_limiter *l, uint32_t i)
{
	struct bucket *b = &l->bucket[i];

	b->older = l->newest;
	b->newer = NO_BUCKET;
	*(l->newest == NO_BUCKET ? &l->oldest : &l->bucket[l->newest].newer) = i;
	l->newest = i;
}

static void chain_remove(struct alk_limiter *l, uint32_t i)
{
	uint32_t *at = &l->chain[l->bucket[i].hash % BUCKETS];

	while (*at != i)
		at = &l->bucket[*at].next;
	*at = l->bucket[i].next;
}

/* The key's bucket, newest now; a new one, for which the oldest goes when there is no room, is
 * full. */
static struct bucket *bucket_get(struct alk_limiter *l, uint64_t hash, uint64_t now, double burst)
{
	uint32_t i = l->chain[hash % BUCKETS];
	struct bucket *b;

	while (i != NO_BUCKET && l->bucket[i].hash != hash)
		i = l->bucket[i].next;
	if (i != NO_BUCKET) {
		use_unlink(l, i);
		use_newest(l, i);
		return &l->bucket[i];
	}
	if (l->used < BUCKETS) {
		i = l->used++;
	} else {
		i = l->oldest;
		use_unlink(l, i);
		chain_remove(l, i);
	}
	b = &l->bucket[i];
	*b = (struct bucket){.hash = hash, .at = now, .tokens = burst};
	b->next = l->chain[hash % BUCKETS];
	l->chain[hash % BUCKETS] = i;
	use_newest(l, i);
	return b;
}

int alk_api_limit(lua_State *L)
{
	size_t len;
	const char *key = luaL_checklstring(L, 1, &len);
	lua_Number rate = luaL_checknumber(L, 2), burst = luaL_checknumber(L, 3);
	struct alk_limiter *limiter;
	struct bucket *b;
	uint64_t now = store_now(L);

	luaL_argcheck(L, len > 0 && len <= ALK_POLICY_TEXT_MAX, 1, "a key has 1 to 255 bytes");
	luaL_argcheck(L, rate > 0 && rate <= 1e9, 2, "not a rate");
	luaL_argcheck(L, burst >= 1 && burst <= 1e9, 3, "a burst is at least 1");
	limiter = limiter_of(L);
	b = bucket_get(limiter, alk_siphash(limiter->secret, key, len), now, burst);
	if (now > b->at)
		b->tokens += (double)(now - b->at) / 1000 * rate;
	b->at = now;
	if (b->tokens > burst)
		b->tokens = burst;
	lua_pushboolean(L, b->tokens >= 1);
	if (b->tokens >= 1)
		b->tokens -= 1;
	return 1;
}

void alk_policy_store_deinit(struct alk_policy_sandbox *box)
{
	free(box->limiter);
	box->limiter = NULL;
	alk_shared_free(&box->own_shared);
	box->shared = NULL;
}
