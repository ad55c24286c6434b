/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SHARED_H
#define ALK_SHARED_H

/* A small dictionary that all workers see: alknet.shared of the policies. It lies in shared memory
 * (memfd, sealed at its size) that the supervisor makes and every worker maps, so it lives through
 * a reload and the death of a worker; the supervisor never looks into it.
 *
 * A lock of the kernel (fcntl) goes with its process, so a worker that dies holds up nobody; one
 * that keeps it makes the others answer -EBUSY after some milliseconds. What another worker wrote
 * is believed to be a value and nothing else: every length is checked on a copy.
 *
 * 8192 slots; a key has at most 64 places, and when all are taken by others that did not expire,
 * the dictionary is full for it. Times are milliseconds of any clock that all users agree on. */

#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>

#define ALK_SHARED_KEY_MAX 128
#define ALK_SHARED_TEXT_MAX 344

enum alk_shared_type {
	ALK_SHARED_NONE = 0,
	ALK_SHARED_BOOL,
	ALK_SHARED_INT,
	ALK_SHARED_FLOAT,
	ALK_SHARED_TEXT,
};

struct alk_shared_value {
	enum alk_shared_type type;
	int64_t integer; /* BOOL too */
	double number;
	size_t len;
	char text[ALK_SHARED_TEXT_MAX];
};

struct alk_shared;
struct alk_shared *alk_shared_new(struct alk_err *err);
/* Maps what another process made. Takes *fd (sets it to -1), on failure too. */
struct alk_shared *alk_shared_map(int *fd, struct alk_err *err);
void alk_shared_free(struct alk_shared **shared);
int alk_shared_fd(const struct alk_shared *shared); /* borrowed */

/* Keys of 1 to ALK_SHARED_KEY_MAX bytes. 0; -ENOENT; -EBUSY. */
int alk_shared_get(struct alk_shared *shared, const char *key, size_t len, uint64_t now,
		   struct alk_shared_value *value);
/* `expires` 0 = never. 0; -ENOSPC; -EBUSY. */
int alk_shared_set(struct alk_shared *shared, const char *key, size_t len, uint64_t now,
		   uint64_t expires, const struct alk_shared_value *value);
/* Add to a whole number; one that is not there is 0, and expires then. As one step for all workers.
 * 0 with the sum in *sum; -EINVAL when the value is no whole number; -ERANGE; -ENOSPC; -EBUSY. */
int alk_shared_add(struct alk_shared *shared, const char *key, size_t len, uint64_t now,
		   uint64_t expires, int64_t by, int64_t *sum);
/* 0; -ENOENT; -EBUSY. */
int alk_shared_delete(struct alk_shared *shared, const char *key, size_t len, uint64_t now);

#endif
