/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "crypt.h"

#define CACHE_LEVELS 10 /* of a path that is kept: others are derived each time */
#define SALT_MAX 64
#define KEY_VERSION_MAX SECRET_HARDENED

struct cached {
	bool used;
	enum secret_key_type type;
	uint16_t levels;
	uint32_t index[CACHE_LEVELS];
	uint64_t made, asked; /* ms */
	uint8_t key[32];
};

/* All that is secret. */
struct vault {
	bool unlocked;
	uint8_t seed[SECRET_SEED];
	struct secret_node node;
	uint8_t key[32]; /* that is worked with */
	struct cached cache[SECRET_CACHE_KEYS];
};

struct secret_store {
	struct vault *vault;
	size_t size;
	uint32_t key_version;
};

/* What an operation ended with, when it failed. */
struct fault {
	enum secret_fault_kind kind;
	struct alk_err err;
};

static int fault_set(struct fault *fault, enum secret_fault_kind kind, const char *text)
{
	fault->kind = kind;
	return alk_err_set(&fault->err, -EINVAL, "%s", text);
}

/* Memory */

/* A server that is root may lock what it needs; another one has what its limit says. */
static int vault_lock(void *vault, size_t size, struct alk_err *err)
{
	struct rlimit limit;

	if (mlock(vault, size) == 0)
		return 0;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &limit);
	}
	if (mlock(vault, size) == 0)
		return 0;
	return alk_err_set(
		err, -errno,
		"the seed's memory cannot be kept out of swap: %s; raise the limit of locked "
		"memory (LimitMEMLOCK, ulimit -l)",
		strerror(errno));
}

struct secret_store *secret_store_new(struct alk_err *locked, struct alk_err *err)
{
	struct secret_store *store = calloc(1, sizeof(*store));
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *vault = MAP_FAILED;

	if (store != NULL) {
		store->size = (sizeof(struct vault) + page - 1) / page * page;
		vault = mmap(NULL, store->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	}
	if (vault == MAP_FAILED) {
		free(store);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	store->vault = vault;
	store->key_version = 1;
	locked->text[0] = '\0';
	if (madvise(vault, store->size, MADV_DONTDUMP) != 0 ||
	    madvise(vault, store->size, MADV_WIPEONFORK) != 0) {
		alk_err_set(err, -errno, "the seed's memory cannot be kept out of dumps: %s",
			    strerror(errno));
		secret_store_free(&store);
		return NULL;
	}
	vault_lock(vault, store->size, locked);
	return store;
}

void secret_store_free(struct secret_store **storep)
{
	struct secret_store *store = *storep;

	*storep = NULL;
	if (store == NULL)
		return;
	explicit_bzero(store->vault, store->size);
	munmap(store->vault, store->size);
	free(store);
}

void secret_store_set_version(struct secret_store *store, uint32_t key_version)
{
	store->key_version = key_version;
}

bool secret_store_unlocked(const struct secret_store *store)
{
	return store->vault->unlocked;
}

/* The cache */

static struct cached *cache_find(struct vault *vault, enum secret_key_type type,
				 const struct secret_path *path)
{
	for (unsigned i = 0; i < SECRET_CACHE_KEYS; i++) {
		struct cached *c = &vault->cache[i];

		if (c->used && c->type == type && c->levels == path->levels &&
		    memcmp(c->index, path->index, path->levels * sizeof(c->index[0])) == 0)
			return c;
	}
	return NULL;
}

/* A free place, or the one that was asked for longest ago. */
static struct cached *cache_place(struct vault *vault)
{
	struct cached *oldest = &vault->cache[0];

	for (unsigned i = 0; i < SECRET_CACHE_KEYS; i++) {
		struct cached *c = &vault->cache[i];

		if (!c->used)
			return c;
		if (c->asked < oldest->asked)
			oldest = c;
	}
	explicit_bzero(oldest, sizeof(*oldest));
	return oldest;
}

static void cache_add(struct vault *vault, enum secret_key_type type,
		      const struct secret_path *path, uint64_t now)
{
	struct cached *c;

	if (path->levels > CACHE_LEVELS)
		return;
	c = cache_place(vault);
	c->used = true;
	c->type = type;
	c->levels = path->levels;
	memcpy(c->index, path->index, path->levels * sizeof(c->index[0]));
	c->made = c->asked = now;
	memcpy(c->key, vault->key, sizeof(c->key));
}

uint64_t secret_store_expire(struct secret_store *store, uint64_t now)
{
	uint64_t next = 0;

	for (unsigned i = 0; i < SECRET_CACHE_KEYS; i++) {
		struct cached *c = &store->vault->cache[i];

		if (c->used && now - c->made >= SECRET_CACHE_MS)
			explicit_bzero(c, sizeof(*c));
		if (c->used && (next == 0 || c->made + SECRET_CACHE_MS - now < next))
			next = c->made + SECRET_CACHE_MS - now;
	}
	return next;
}

static uint32_t cache_count(const struct vault *vault)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < SECRET_CACHE_KEYS; i++)
		n += vault->cache[i].used;
	return n;
}

/* Keys */

/* Into vault->key. */
static int key_at(struct secret_store *store, enum secret_key_type type,
		  const struct secret_path *path, uint64_t now, struct fault *fault)
{
	struct vault *vault = store->vault;
	struct cached *c = cache_find(vault, type, path);
	int rc;

	if (c != NULL) {
		c->asked = now;
		memcpy(vault->key, c->key, sizeof(vault->key));
		return 0;
	}
	if (type == SECRET_KEY_SECP256K1)
		rc = secret_bip32(vault->seed, SECRET_SEED, path, &vault->node, &fault->err);
	else
		rc = secret_slip10(vault->seed, SECRET_SEED, path, &vault->node, &fault->err);
	if (rc < 0) {
		fault->kind = rc == -EINVAL ? SECRET_INVALID_PATH : SECRET_DERIVATION;
		return rc;
	}
	memcpy(vault->key, vault->node.key, sizeof(vault->key));
	explicit_bzero(&vault->node, sizeof(vault->node));
	cache_add(vault, type, path, now);
	return 0;
}

static int path_of(struct secret_span span, struct secret_path *path, struct secret_audit *audit,
		   struct fault *fault)
{
	fault->kind = SECRET_INVALID_PATH;
	if (secret_path_parse((const char *)span.bytes, span.len, path, &fault->err) < 0)
		return -EINVAL;
	secret_path_format(path, audit->path, sizeof(audit->path));
	return 0;
}

static int encryption_key(struct secret_store *store, uint32_t key_version, uint64_t now,
			  struct secret_audit *audit, struct fault *fault)
{
	struct secret_path path = {.index = {74, 2, 0, key_version - 1}, .levels = 4};

	if (key_version == 0 || key_version > KEY_VERSION_MAX)
		return fault_set(fault, SECRET_ENCRYPTION,
				 "key_version: it must be 1 to 2147483648");
	for (unsigned i = 0; i < path.levels; i++)
		path.index[i] |= SECRET_HARDENED;
	secret_path_format(&path, audit->path, sizeof(audit->path));
	return key_at(store, SECRET_KEY_AES256_GCM, &path, now, fault);
}

/* Operations: each puts its answer behind `out`, or returns a fault. */

struct run {
	struct secret_store *store;
	const struct secret_request *request;
	struct secret_span passphrase;
	uint64_t now;
	struct secret_buf *out;
	struct secret_audit *audit;
	struct fault fault;
};

static int run_derive(struct run *run)
{
	static const enum secret_key_type types[] = {SECRET_KEY_ED25519, SECRET_KEY_AES256_GCM,
						     SECRET_KEY_SECP256K1};
	enum secret_key_type type = types[run->request->op - SECRET_DERIVE_ED25519];
	uint8_t *key = run->store->vault->key, public[33];
	struct secret_answer answer = {.type = type, .private_key = {key, 32}};
	struct secret_path path;
	int rc = path_of(run->request->path, &path, run->audit, &run->fault);

	if (rc == 0)
		rc = key_at(run->store, type, &path, run->now, &run->fault);
	if (rc < 0)
		return rc;
	if (type == SECRET_KEY_ED25519) {
		answer.public_key = (struct secret_span){public, 32};
		rc = secret_ed25519_public(key, public);
		alk_err_set(&run->fault.err, rc, "Ed25519 failed");
	} else if (type == SECRET_KEY_SECP256K1) {
		answer.public_key = (struct secret_span){public, 33};
		rc = secret_bip32_public(key, public, &run->fault.err);
	}
	run->fault.kind = SECRET_DERIVATION;
	if (rc == 0)
		secret_answer_encode(run->out, run->request->op, &answer);
	return rc;
}

static int run_password(struct run *run)
{
	char text[SECRET_PASSWORD_MAX];
	struct secret_answer answer = {.bytes = {(const uint8_t *)text, run->request->length}};
	struct secret_path path;
	int rc;

	run->fault.kind = SECRET_DERIVATION;
	if (run->request->length == 0 || run->request->length > SECRET_PASSWORD_MAX)
		return fault_set(&run->fault, SECRET_DERIVATION,
				 "length: a password has 1 to 1024 letters");
	rc = path_of(run->request->path, &path, run->audit, &run->fault);
	if (rc == 0)
		rc = key_at(run->store, SECRET_KEY_AES256_GCM, &path, run->now, &run->fault);
	if (rc < 0)
		return rc;
	run->fault.kind = SECRET_DERIVATION;
	rc = secret_password(run->store->vault->key, answer.bytes.len, text, &run->fault.err);
	if (rc == 0)
		secret_answer_encode(run->out, run->request->op, &answer);
	explicit_bzero(text, sizeof(text));
	return rc;
}

static int seal(struct run *run, struct secret_span plaintext, uint32_t key_version)
{
	struct secret_buf sealed = {0}, text = {0};
	struct secret_answer answer = {.sealed.key_version = key_version};
	uint8_t random[16 + SECRET_GCM_IV], *to;
	size_t salt, iv;
	int rc = encryption_key(run->store, key_version, run->now, run->audit, &run->fault);

	if (rc < 0)
		return rc;
	rc = secret_random(random, sizeof(random));
	to = secret_buf_more(&sealed, plaintext.len + SECRET_GCM_TAG);
	if (rc == 0)
		rc = to == NULL ? -ENOMEM
				: secret_gcm_seal(run->store->vault->key, random + 16,
						  plaintext.bytes, plaintext.len, to);
	if (rc < 0) {
		rc = fault_set(&run->fault, SECRET_ENCRYPTION, "AES-256-GCM failed");
		goto out;
	}
	secret_base64_add(&text, random, 16);
	salt = text.len;
	secret_base64_add(&text, random + 16, SECRET_GCM_IV);
	iv = text.len;
	secret_base64_add(&text, sealed.bytes, sealed.len);
	if (text.failed || text.len > SECRET_MESSAGE_MAX - 64) {
		rc = fault_set(&run->fault, SECRET_ENCRYPTION,
			       "plaintext: it is too long for an answer of 16 MiB");
		goto out;
	}
	answer.sealed.salt = (struct secret_span){text.bytes, salt};
	answer.sealed.iv = (struct secret_span){text.bytes + salt, iv - salt};
	answer.sealed.data = (struct secret_span){text.bytes + iv, text.len - iv};
	secret_answer_encode(run->out, run->request->op, &answer);
out:
	secret_buf_wipe(&sealed);
	secret_buf_wipe(&text);
	return rc;
}

static int run_encrypt(struct run *run)
{
	return seal(run, run->request->plaintext, run->request->key_version);
}

/* Which of its parts is wrong, before any key is made. */
static int sealed_parts(const struct secret_encrypted *sealed, uint8_t iv[SECRET_GCM_IV],
			struct secret_buf *data, struct fault *fault)
{
	struct secret_buf small = {0};
	const char *wrong = NULL;
	int rc = 0;

	if (sealed->salt.len > SALT_MAX * 2 ||
	    secret_base64_decode(sealed->salt.bytes, sealed->salt.len, &small) < 0 ||
	    small.len > SALT_MAX)
		wrong = "salt: it must be base64 of at most 64 bytes";
	small.len = 0;
	if (wrong == NULL && (sealed->iv.len > 64 ||
			      secret_base64_decode(sealed->iv.bytes, sealed->iv.len, &small) < 0 ||
			      small.len != SECRET_GCM_IV))
		wrong = "iv: it must be base64 of 12 bytes";
	if (wrong == NULL)
		memcpy(iv, small.bytes, SECRET_GCM_IV);
	if (wrong == NULL &&
	    (secret_base64_decode(sealed->data.bytes, sealed->data.len, data) < 0 ||
	     data->len < SECRET_GCM_TAG))
		wrong = "data: it must be base64 of the ciphertext and its tag of 16 bytes";
	if (wrong != NULL)
		rc = fault_set(fault, SECRET_ENCRYPTION, wrong);
	secret_buf_wipe(&small);
	return rc;
}

/* The plaintext, into `plain`. */
static int unseal(struct run *run, struct secret_buf *plain)
{
	const struct secret_encrypted *sealed = &run->request->sealed;
	struct secret_buf data = {0};
	uint8_t iv[SECRET_GCM_IV], *to;
	int rc = sealed_parts(sealed, iv, &data, &run->fault);

	if (rc == 0)
		rc = encryption_key(run->store, sealed->key_version, run->now, run->audit,
				    &run->fault);
	if (rc < 0)
		goto out;
	to = secret_buf_more(plain, data.len - SECRET_GCM_TAG);
	rc = to == NULL ? -ENOMEM
			: secret_gcm_open(run->store->vault->key, iv, data.bytes, data.len, to);
	if (rc < 0)
		rc = fault_set(
			&run->fault, SECRET_ENCRYPTION,
			rc == -EBADMSG
				? "the tag is wrong: another seed, another key_version, or the "
				  "data was changed"
				: "AES-256-GCM failed");
out:
	secret_buf_wipe(&data);
	return rc;
}

static int run_decrypt(struct run *run)
{
	struct secret_buf plain = {0};
	int rc = unseal(run, &plain);
	struct secret_answer answer = {.bytes = {plain.bytes, plain.len}};

	if (rc == 0)
		secret_answer_encode(run->out, run->request->op, &answer);
	secret_buf_wipe(&plain);
	return rc;
}

static int run_reencrypt(struct run *run)
{
	struct secret_buf plain = {0};
	int rc;

	if (run->request->sealed.key_version >= run->store->key_version) {
		run->fault.kind = SECRET_ENCRYPTION;
		return alk_err_set(
			&run->fault.err, -EINVAL,
			"key_version: it is %u; only data of a version before %u, the newest, "
			"is encrypted again",
			run->request->sealed.key_version, run->store->key_version);
	}
	rc = unseal(run, &plain);
	if (rc == 0)
		rc = seal(run, (struct secret_span){plain.bytes, plain.len},
			  run->store->key_version);
	secret_buf_wipe(&plain);
	return rc;
}

static int run_lock(struct run *run)
{
	explicit_bzero(run->store->vault, run->store->size);
	secret_answer_encode(run->out, SECRET_LOCK, &(struct secret_answer){0});
	return 0;
}

static int run_unlock(struct run *run)
{
	struct vault *vault = run->store->vault;
	struct secret_span phrase = run->request->phrase;
	int rc;

	run->fault.kind = SECRET_MNEMONIC;
	rc = secret_bip39_seed((const char *)phrase.bytes, phrase.len,
			       (const char *)run->passphrase.bytes, run->passphrase.len,
			       vault->seed, &run->fault.err);
	if (rc == 0) {
		vault->unlocked = true;
		secret_answer_encode(run->out, SECRET_UNLOCK, &(struct secret_answer){0});
	}
	return rc;
}

static int run_status(struct run *run)
{
	struct secret_answer answer = {.unlocked = run->store->vault->unlocked,
				       .key_version = run->store->key_version,
				       .cached = cache_count(run->store->vault)};

	secret_answer_encode(run->out, SECRET_STATUS, &answer);
	return 0;
}

void secret_store_run(struct secret_store *store, const struct secret_request *request,
		      struct secret_span passphrase, uint64_t now, struct secret_buf *out,
		      struct secret_audit *audit)
{
	static int (*const runs[SECRET_OPS])(struct run *) = {
		[SECRET_DERIVE_ED25519] = run_derive,
		[SECRET_DERIVE_ENCRYPTION_KEY] = run_derive,
		[SECRET_DERIVE_ETHEREUM_KEY] = run_derive,
		[SECRET_DERIVE_PASSWORD] = run_password,
		[SECRET_ENCRYPT] = run_encrypt,
		[SECRET_DECRYPT] = run_decrypt,
		[SECRET_LOCK] = run_lock,
		[SECRET_UNLOCK] = run_unlock,
		[SECRET_REENCRYPT] = run_reencrypt,
		[SECRET_STATUS] = run_status,
	};
	struct run run = {store, request, passphrase, now, out, audit, {0}};
	bool unlocked = store->vault->unlocked;
	int rc;

	*audit = (struct secret_audit){.result = "ok"};
	secret_store_expire(store, now);
	if (!unlocked && request->op != SECRET_UNLOCK && request->op != SECRET_STATUS)
		rc = fault_set(&run.fault, SECRET_SERVICE_LOCKED, "the service is locked");
	else if (unlocked && request->op == SECRET_UNLOCK)
		rc = fault_set(&run.fault, SECRET_ALREADY_UNLOCKED, "the service is unlocked");
	else
		rc = runs[request->op](&run);
	if (rc < 0) {
		secret_fault_encode(out, run.fault.kind, run.fault.err.text);
		audit->result = secret_fault_name(run.fault.kind);
	}
	explicit_bzero(store->vault->key, sizeof(store->vault->key));
	secret_stack_wipe();
}
