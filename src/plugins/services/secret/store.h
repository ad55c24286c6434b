/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_STORE_H
#define SECRET_STORE_H

/* The seed, the keys that were made of it lately, and the operations on them. One for the whole
 * server, in the supervisor. No I/O. Seed and keys are in pages of their own that are neither
 * swapped, dumped nor inherited.
 *
 *   LOCKED ──unlock──▶ UNLOCKED        locked again: everything is wiped
 *      ◀──────lock────────┘ */

#include "derive.h"
#include "wire.h"

#define SECRET_CACHE_KEYS 64
#define SECRET_CACHE_MS ((uint64_t)3600 * 1000)

struct secret_store;

/* `locked` says why the memory could not be locked (it is used nevertheless), else its text is
 * empty. NULL with `err`. */
struct secret_store *secret_store_new(struct alk_err *locked, struct alk_err *err);
void secret_store_free(struct secret_store **store);

/* The version that Reencrypt goes to. */
void secret_store_set_version(struct secret_store *store, uint32_t key_version);
bool secret_store_unlocked(const struct secret_store *store);

/* What a log line says of a request; never material. */
struct secret_audit {
	const char *result; /* "ok" or the name of the fault */
	char path[128];
};

/* `passphrase` is BIP-39's, for Unlock; empty over the protocol. `out` gets postcard(Result). `now`
 * is in ms. */
void secret_store_run(struct secret_store *store, const struct secret_request *request,
		      struct secret_span passphrase, uint64_t now, struct secret_buf *out,
		      struct secret_audit *audit);
/* Wipe what is older than an hour. When to come again, in ms; 0 = the cache is empty. */
uint64_t secret_store_expire(struct secret_store *store, uint64_t now);

#endif
