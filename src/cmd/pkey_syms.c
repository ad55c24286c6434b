/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* EVP_PKEY_new_raw_private_key and EVP_PKEY_get_raw_private_key of this program, ahead of
 * libcrypto's: see src/core/pkey_keep.h. What is not kept there goes on to libcrypto. */
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <alknet/err.h>
#include "pkey_keep.h"

struct engine_st;

ALK_EXPORT struct evp_pkey_st *EVP_PKEY_new_raw_private_key(int type, struct engine_st *e,
							    const unsigned char *bytes, size_t len);
ALK_EXPORT int EVP_PKEY_get_raw_private_key(const struct evp_pkey_st *key, unsigned char *bytes,
					    size_t *len);

static struct evp_pkey_st *(*next_new)(int, struct engine_st *, const unsigned char *, size_t);
static int (*next_get)(const struct evp_pkey_st *, unsigned char *, size_t *);

/* A pointer to a function and one to an object are the same size wherever there is dlsym
 * (POSIX). */
static void find_next(const char *name, void *where, size_t size)
{
	void *found = dlsym(RTLD_NEXT, name);

	memcpy(where, &found, size);
}

__attribute__((constructor)) static void syms_find(void)
{
	find_next("EVP_PKEY_new_raw_private_key", &next_new, sizeof(next_new));
	find_next("EVP_PKEY_get_raw_private_key", &next_get, sizeof(next_get));
}

struct evp_pkey_st *EVP_PKEY_new_raw_private_key(int type, struct engine_st *e,
						 const unsigned char *bytes, size_t len)
{
	struct evp_pkey_st *key = alk_pkey_keep_find(type, bytes, len);

	if (key || !next_new)
		return key;
	key = next_new(type, e, bytes, len);
	alk_pkey_keep_made(key);
	return key;
}

int EVP_PKEY_get_raw_private_key(const struct evp_pkey_st *key, unsigned char *bytes, size_t *len)
{
	int rc = next_get ? next_get(key, bytes, len) : 0;

	if (rc == 1 && bytes)
		alk_pkey_keep_told((struct evp_pkey_st *)(uintptr_t)key);
	return rc;
}
