/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "shared.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <alknet/loop.h>
#include "siphash.h"

#define SHARED_MAGIC 0x64726873u
#define SLOTS 8192u
#define PLACES 64u
#define LOCK_TRIES 20	  /* at once, */
#define LOCK_WAITS 40	  /* then so often */
#define LOCK_PAUSE 250000 /* after so many nanoseconds */

enum slot_state {
	SLOT_FREE = 0, /* was never used: whoever looks for a key need look no further */
	SLOT_GONE,
	SLOT_HELD,
};

struct shared_slot {
	uint8_t state, type, key_len, spare;
	uint32_t text_len;
	uint64_t expires;
	int64_t integer;
	double number;
	char key[ALK_SHARED_KEY_MAX];
	char text[ALK_SHARED_TEXT_MAX];
	uint64_t spare_end;
};
static_assert(sizeof(struct shared_slot) == 512, "slots do not straddle pages");

struct shared_memory {
	uint32_t magic, size;
	uint64_t secret[2];
	struct shared_slot slot[SLOTS];
};

struct alk_shared {
	int fd;
	struct shared_memory *memory;
	uint64_t secret[2]; /* a copy: another worker may not change where keys lie for this one */
};

static struct alk_shared *shared_open(int *fd, struct alk_err *err)
{
	struct alk_shared *shared = calloc(1, sizeof(*shared));
	void *memory = MAP_FAILED;

	if (shared)
		memory = mmap(NULL, sizeof(struct shared_memory), PROT_READ | PROT_WRITE,
			      MAP_SHARED, *fd, 0);
	if (memory == MAP_FAILED) {
		alk_err_set(err, -errno, "shared: cannot map shared memory: %s", strerror(errno));
		free(shared);
		alk_fd_close(fd);
		return NULL;
	}
	shared->fd = *fd;
	shared->memory = memory;
	*fd = -1;
	return shared;
}

struct alk_shared *alk_shared_new(struct alk_err *err)
{
	int fd = memfd_create("alknet-shared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct alk_shared *shared;

	if (fd < 0 || ftruncate(fd, sizeof(struct shared_memory)) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		alk_err_set(err, -errno, "shared: cannot make shared memory: %s", strerror(errno));
		alk_fd_close(&fd);
		return NULL;
	}
	shared = shared_open(&fd, err);
	if (!shared)
		return NULL;
	if (getrandom(shared->secret, sizeof(shared->secret), 0) != sizeof(shared->secret)) {
		alk_err_set(err, -EIO, "shared: the system gives no random bytes");
		alk_shared_free(&shared);
		return NULL;
	}
	memcpy(shared->memory->secret, shared->secret, sizeof(shared->secret));
	shared->memory->magic = SHARED_MAGIC;
	shared->memory->size = sizeof(struct shared_memory);
	return shared;
}

struct alk_shared *alk_shared_map(int *fd, struct alk_err *err)
{
	struct alk_shared *shared;
	struct stat st;

	if (fstat(*fd, &st) != 0 || st.st_size != sizeof(struct shared_memory)) {
		alk_err_set(err, -EINVAL, "shared: the shared memory has another size");
		alk_fd_close(fd);
		return NULL;
	}
	shared = shared_open(fd, err);
	if (!shared)
		return NULL;
	memcpy(shared->secret, shared->memory->secret, sizeof(shared->secret));
	if (shared->memory->magic != SHARED_MAGIC ||
	    shared->memory->size != sizeof(struct shared_memory)) {
		alk_err_set(err, -EINVAL, "shared: the shared memory is of another version");
		alk_shared_free(&shared);
	}
	return shared;
}

void alk_shared_free(struct alk_shared **shared)
{
	struct alk_shared *s = *shared;

	*shared = NULL;
	if (!s)
		return;
	munmap(s->memory, sizeof(*s->memory));
	alk_fd_close(&s->fd);
	free(s);
}

int alk_shared_fd(const struct alk_shared *shared)
{
	return shared->fd;
}

/* ---- one at a time ---- */

static int lock_try(const struct alk_shared *shared, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};

	return fcntl(shared->fd, F_SETLK, &lock) == 0 ? 0 : -EBUSY;
}

/* Held for about a microsecond, or a time slice when its holder is not running. */
static int shared_lock(const struct alk_shared *shared)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE};
	int i;

	for (i = 0; i < LOCK_TRIES + LOCK_WAITS; i++) {
		if (lock_try(shared, F_WRLCK) == 0)
			return 0;
		if (i < LOCK_TRIES)
			sched_yield();
		else
			nanosleep(&pause, NULL);
	}
	return -EBUSY;
}

static void shared_unlock(const struct alk_shared *shared)
{
	lock_try(shared, F_UNLCK);
}

/* ---- slots ---- */

static bool slot_is_live(const struct shared_slot *slot, uint64_t now)
{
	return slot->state == SLOT_HELD && (slot->expires == 0 || slot->expires > now);
}

static bool slot_is(const struct shared_slot *slot, const char *key, size_t len)
{
	return slot->state == SLOT_HELD && slot->key_len == len && memcmp(slot->key, key, len) == 0;
}

/* The slot of the key, expired or not, or NULL; and in *room where it could go. */
static struct shared_slot *slot_find(struct alk_shared *shared, const char *key, size_t len,
				     uint64_t now, struct shared_slot **room)
{
	uint64_t hash = alk_siphash(shared->secret, key, len);
	uint64_t step = hash >> 32 | 1; /* odd: it comes by every slot */
	struct shared_slot *slot;
	unsigned i;

	*room = NULL;
	for (i = 0; i < PLACES; i++) {
		slot = &shared->memory->slot[(hash + i * step) % SLOTS];
		if (slot_is(slot, key, len))
			return slot;
		if (!*room && !slot_is_live(slot, now))
			*room = slot;
		if (slot->state == SLOT_FREE)
			return NULL;
	}
	return NULL;
}

/* Whoever dies in the middle leaves a slot that is not held. */
static void slot_fill(struct shared_slot *slot, const char *key, size_t len, uint64_t expires,
		      const struct alk_shared_value *value)
{
	slot->state = SLOT_GONE;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	slot->type = (uint8_t)value->type;
	slot->key_len = (uint8_t)len;
	slot->text_len = (uint32_t)value->len;
	slot->expires = expires;
	slot->integer = value->integer;
	slot->number = value->number;
	memcpy(slot->key, key, len);
	memcpy(slot->text, value->text, value->len);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	slot->state = SLOT_HELD;
}

/* Nothing that is in the memory is used but through the copy. */
static int slot_read(const struct shared_slot *slot, uint64_t now, struct alk_shared_value *value)
{
	struct shared_slot copy;

	memcpy(&copy, slot, sizeof(copy));
	__asm__ volatile("" : : "r"(&copy) : "memory");
	if (!slot_is_live(&copy, now) || copy.text_len > sizeof(copy.text) ||
	    copy.type < ALK_SHARED_BOOL || copy.type > ALK_SHARED_TEXT)
		return -ENOENT;
	value->type = (enum alk_shared_type)copy.type;
	value->integer = copy.integer;
	value->number = copy.number;
	value->len = copy.text_len;
	memcpy(value->text, copy.text, copy.text_len);
	return 0;
}

int alk_shared_get(struct alk_shared *shared, const char *key, size_t len, uint64_t now,
		   struct alk_shared_value *value)
{
	struct shared_slot *slot, *room;
	int rc = shared_lock(shared);

	if (rc < 0)
		return rc;
	slot = slot_find(shared, key, len, now, &room);
	rc = slot ? slot_read(slot, now, value) : -ENOENT;
	shared_unlock(shared);
	return rc;
}

int alk_shared_set(struct alk_shared *shared, const char *key, size_t len, uint64_t now,
		   uint64_t expires, const struct alk_shared_value *value)
{
	struct shared_slot *slot, *room;
	int rc = shared_lock(shared);

	if (rc < 0)
		return rc;
	slot = slot_find(shared, key, len, now, &room);
	if (!slot)
		slot = room;
	if (slot)
		slot_fill(slot, key, len, expires, value);
	shared_unlock(shared);
	return slot ? 0 : -ENOSPC;
}

static int add_locked(struct alk_shared *shared, const char *key, size_t len, uint64_t now,
		      uint64_t expires, int64_t by, int64_t *sum)
{
	struct alk_shared_value value = {.type = ALK_SHARED_INT};
	struct shared_slot *room, *slot = slot_find(shared, key, len, now, &room);

	if (slot && slot_read(slot, now, &value) == 0) {
		if (value.type != ALK_SHARED_INT)
			return -EINVAL;
		expires = slot->expires;
	} else {
		value = (struct alk_shared_value){.type = ALK_SHARED_INT};
	}
	if (!slot)
		slot = room;
	if (!slot)
		return -ENOSPC;
	if (__builtin_add_overflow(value.integer, by, &value.integer))
		return -ERANGE;
	slot_fill(slot, key, len, expires, &value);
	*sum = value.integer;
	return 0;
}

int alk_shared_add(struct alk_shared *shared, const char *key, size_t len, uint64_t now,
		   uint64_t expires, int64_t by, int64_t *sum)
{
	int rc = shared_lock(shared);

	if (rc < 0)
		return rc;
	rc = add_locked(shared, key, len, now, expires, by, sum);
	shared_unlock(shared);
	return rc;
}

int alk_shared_delete(struct alk_shared *shared, const char *key, size_t len, uint64_t now)
{
	struct shared_slot *slot, *room;
	int rc = shared_lock(shared);

	if (rc < 0)
		return rc;
	slot = slot_find(shared, key, len, now, &room);
	rc = slot && slot_is_live(slot, now) ? 0 : -ENOENT;
	if (slot)
		slot->state = SLOT_GONE;
	shared_unlock(shared);
	return rc;
}
