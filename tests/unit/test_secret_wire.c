/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the secret service says on port 1, against the examples of docs/SECRET.md, and the service
 * itself. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../src/plugins/services/secret/store.h"

#define PHRASE                                                                                     \
	"abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
#define SPAN(text_) ((struct secret_span){(const uint8_t *)(text_), strlen(text_)})
#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

struct service {
	struct secret_store *store;
	struct secret_buf out;
	struct secret_answer answer;
	struct secret_audit audit;
	uint64_t now;
};

static int service_new(void **state)
{
	struct service *s = calloc(1, sizeof(*s));
	struct alk_err locked, err;

	assert_non_null(s);
	s->store = secret_store_new(&locked, &err);
	assert_non_null(s->store);
	*state = s;
	return 0;
}

static int service_free(void **state)
{
	struct service *s = *state;

	secret_store_free(&s->store);
	assert_null(s->store);
	secret_buf_wipe(&s->out);
	free(s);
	return 0;
}

static void run(struct service *s, const struct secret_request *request)
{
	secret_buf_wipe(&s->out);
	secret_store_run(s->store, request, SPAN(""), s->now, &s->out, &s->audit);
	assert_false(s->out.failed);
	assert_int_equal(secret_answer_decode(s->out.bytes, s->out.len, request->op, &s->answer),
			 0);
}

static void run_fails(struct service *s, const struct secret_request *request,
		      enum secret_fault_kind fault, const char *why)
{
	run(s, request);
	assert_false(s->answer.good);
	assert_int_equal(s->answer.fault, fault);
	assert_string_equal(s->audit.result, secret_fault_name(fault));
	assert_int_equal(s->answer.text.len, strlen(why));
	assert_memory_equal(s->answer.text.bytes, why, strlen(why));
}

static void unlock(struct service *s)
{
	run(s, &(struct secret_request){.op = SECRET_UNLOCK, .phrase = SPAN(PHRASE)});
	assert_true(s->answer.good);
}

static void encoded(const struct secret_request *request, const uint8_t *wanted, size_t n)
{
	struct secret_buf body = {0}, whole = {0};
	struct secret_request again;

	secret_request_encode(&body, request);
	secret_put_bytes(&whole, body.bytes, body.len);
	assert_int_equal(whole.len, n);
	assert_memory_equal(whole.bytes, wanted, n);
	assert_int_equal(secret_request_decode(body.bytes, body.len, SECRET_OPS_PORT1, &again), 0);
	assert_int_equal(again.op, request->op);
	secret_buf_wipe(&body);
	secret_buf_wipe(&whole);
}

static void test_requests(void **state)
{
	(void)state;
	encoded(&(struct secret_request){.op = SECRET_DERIVE_ED25519,
					 .path = SPAN("m/74'/0'/0'/0'")},
		BYTES(0x10, 0x00, 0x0e, 0x6d, 0x2f, 0x37, 0x34, 0x27, 0x2f, 0x30, 0x27, 0x2f, 0x30,
		      0x27, 0x2f, 0x30, 0x27));
	encoded(&(struct secret_request){.op = SECRET_DERIVE_PASSWORD,
					 .path = SPAN("m"),
					 .length = 300},
		BYTES(0x05, 0x03, 0x01, 0x6d, 0xac, 0x02));
	encoded(&(struct secret_request){.op = SECRET_ENCRYPT,
					 .plaintext = SPAN("hi"),
					 .key_version = 1},
		BYTES(0x05, 0x04, 0x02, 0x68, 0x69, 0x01));
	encoded(&(struct secret_request){.op = SECRET_LOCK}, BYTES(0x01, 0x06));
}

static void test_answers(void **state)
{
	struct service *s = *state;
	uint8_t wanted[69] = {0x44, 0x00, 0x00, 0x20};
	struct secret_buf whole = {0};

	unlock(s);
	secret_put_bytes(&whole, s->out.bytes, s->out.len);
	assert_int_equal(whole.len, 2);
	assert_memory_equal(whole.bytes, "\x01\x00", 2);
	run(s, &(struct secret_request){.op = SECRET_DERIVE_ED25519, .path = SPAN("m/74'")});
	whole.len = 0;
	secret_put_bytes(&whole, s->out.bytes, s->out.len);
	memcpy(wanted + 4, s->answer.private_key.bytes, 32);
	wanted[36] = 0x20;
	memcpy(wanted + 37, s->answer.public_key.bytes, 32);
	assert_int_equal(whole.len, sizeof(wanted));
	assert_memory_equal(whole.bytes, wanted, sizeof(wanted));
	whole.len = 0;
	secret_fault_encode(&whole, SECRET_SERVICE_LOCKED, "not sent");
	assert_int_equal(whole.len, 2);
	assert_memory_equal(whole.bytes, "\x01\x00", 2);
	whole.len = 0;
	secret_fault_encode(&whole, SECRET_MNEMONIC, "bad");
	assert_int_equal(whole.len, 6);
	assert_memory_equal(whole.bytes,
			    "\x01\x02\x03"
			    "bad",
			    6);
	secret_buf_wipe(&whole);
}

static void test_bad_requests(void **state)
{
	struct secret_request request;

	(void)state;
#define REFUSED(...)                                                                               \
	assert_int_equal(secret_request_decode(BYTES(__VA_ARGS__), SECRET_OPS_PORT1, &request),    \
			 -EINVAL)
	assert_int_equal(secret_request_decode((const uint8_t *)"", 0, SECRET_OPS, &request),
			 -EINVAL);
	REFUSED(0x08);			       /* no such operation on port 1 */
	REFUSED(0x06, 0x00);		       /* longer than it is */
	REFUSED(0x86, 0x00);		       /* a number in more bytes than it needs */
	REFUSED(0x00, 0x02, 0x6d);	       /* cut short */
	REFUSED(0x00, 0x01, 0xff);	       /* not UTF-8 */
	REFUSED(0x00, 0x03, 0xed, 0xa0, 0x80); /* a surrogate */
	REFUSED(0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x6d);
	REFUSED(0x04, 0x00, 0xff, 0xff, 0xff, 0xff, 0x10); /* more than a u32 */
	REFUSED(0x03, 0x01, 0x6d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02);
	assert_int_equal(request.op, SECRET_DERIVE_PASSWORD);
#undef REFUSED
}

static void test_locked(void **state)
{
	struct service *s = *state;

	for (unsigned op = 0; op < SECRET_OPS; op++)
		if (op != SECRET_UNLOCK && op != SECRET_STATUS)
			run_fails(s, &(struct secret_request){.op = op, .path = SPAN("m")},
				  SECRET_SERVICE_LOCKED, "");
	run(s, &(struct secret_request){.op = SECRET_STATUS});
	assert_true(s->answer.good);
	assert_false(s->answer.unlocked);
}

static void test_unlock(void **state)
{
	struct service *s = *state;

	run_fails(s, &(struct secret_request){.op = SECRET_UNLOCK, .phrase = SPAN("abandon nope")},
		  SECRET_MNEMONIC, "word 2 is not in the English list of BIP-39");
	assert_false(secret_store_unlocked(s->store));
	unlock(s);
	run_fails(s, &(struct secret_request){.op = SECRET_UNLOCK, .phrase = SPAN(PHRASE)},
		  SECRET_ALREADY_UNLOCKED, "");
	run(s, &(struct secret_request){.op = SECRET_LOCK});
	assert_true(s->answer.good);
	assert_false(secret_store_unlocked(s->store));
}

static void test_wrong_paths_and_lengths(void **state)
{
	struct service *s = *state;

	unlock(s);
	run_fails(s, &(struct secret_request){.op = SECRET_DERIVE_ED25519, .path = SPAN("m/0")},
		  SECRET_INVALID_PATH,
		  "path: part 1 is not hardened, as all parts must be for this kind of key: put ' "
		  "behind it");
	run_fails(s, &(struct secret_request){.op = SECRET_DERIVE_ETHEREUM_KEY, .path = SPAN("m/")},
		  SECRET_INVALID_PATH, "path: part 1 is empty");
	for (uint64_t length = 0; length < 2000; length += 1025)
		run_fails(s,
			  &(struct secret_request){.op = SECRET_DERIVE_PASSWORD,
						   .path = SPAN("m"),
						   .length = length},
			  SECRET_DERIVATION, "length: a password has 1 to 1024 letters");
	run(s, &(struct secret_request){.op = SECRET_DERIVE_ETHEREUM_KEY,
					.path = SPAN("m/44'/60'/0'/0/0")});
	assert_int_equal(s->answer.type, SECRET_KEY_SECP256K1);
	assert_int_equal(s->answer.public_key.len, 33);
	assert_string_equal(s->audit.path, "m/44'/60'/0'/0/0");
}

/* A copy that outlives the answer. */
struct sealed_copy {
	char salt[64], iv[64], data[256];
	struct secret_encrypted sealed;
};

static void seal(struct service *s, const char *text, uint32_t version, struct sealed_copy *copy)
{
	run(s, &(struct secret_request){.op = SECRET_ENCRYPT,
					.plaintext = SPAN(text),
					.key_version = version});
	assert_true(s->answer.good);
	snprintf(copy->salt, 64, "%.*s", (int)s->answer.sealed.salt.len,
		 (const char *)s->answer.sealed.salt.bytes);
	snprintf(copy->iv, 64, "%.*s", (int)s->answer.sealed.iv.len,
		 (const char *)s->answer.sealed.iv.bytes);
	snprintf(copy->data, 256, "%.*s", (int)s->answer.sealed.data.len,
		 (const char *)s->answer.sealed.data.bytes);
	copy->sealed = (struct secret_encrypted){s->answer.sealed.key_version, SPAN(copy->salt),
						 SPAN(copy->iv), SPAN(copy->data)};
}

static void open_fails(struct service *s, const struct secret_encrypted *sealed, const char *why)
{
	run_fails(s, &(struct secret_request){.op = SECRET_DECRYPT, .sealed = *sealed},
		  SECRET_ENCRYPTION, why);
}

static void test_encryption(void **state)
{
	static const char tag[] =
		"the tag is wrong: another seed, another key_version, or the data "
		"was changed";
	static const char iv[] = "iv: it must be base64 of 12 bytes";
	struct secret_encrypted wrong;
	struct service *s = *state;
	struct sealed_copy copy;

	unlock(s);
	seal(s, "through", 2, &copy);
	assert_int_equal(copy.sealed.key_version, 2);
	run(s, &(struct secret_request){.op = SECRET_DECRYPT, .sealed = copy.sealed});
	assert_int_equal(s->answer.bytes.len, 7);
	assert_memory_equal(s->answer.bytes.bytes, "through", 7);
	assert_string_equal(s->audit.path, "m/74'/2'/0'/1'");
	wrong = copy.sealed, wrong.key_version = 1;
	open_fails(s, &wrong, tag);
	wrong.key_version = 0;
	open_fails(s, &wrong, "key_version: it must be 1 to 2147483648");
	wrong.key_version = 2147483649u;
	open_fails(s, &wrong, "key_version: it must be 1 to 2147483648");
	wrong = copy.sealed, wrong.iv = SPAN("AAAA");
	open_fails(s, &wrong, iv);
	wrong.iv = SPAN("AAAAAAAAAAAAAAA\n");
	open_fails(s, &wrong, iv);
	wrong.iv = SPAN("");
	open_fails(s, &wrong, iv);
	wrong.iv = SPAN("AAAAAAAAAAAAAAAA");
	open_fails(s, &wrong, tag);
	wrong = copy.sealed, wrong.salt = SPAN("x");
	open_fails(s, &wrong, "salt: it must be base64 of at most 64 bytes");
	wrong = copy.sealed, wrong.data = SPAN("AAAA");
	open_fails(s, &wrong, "data: it must be base64 of the ciphertext and its tag of 16 bytes");
	wrong.data = SPAN("=AAA");
	open_fails(s, &wrong, "data: it must be base64 of the ciphertext and its tag of 16 bytes");
	copy.data[0] = copy.data[0] == 'A' ? 'B' : 'A';
	open_fails(s, &copy.sealed, tag);
}

static void test_rotation(void **state)
{
	struct service *s = *state;
	struct sealed_copy copy;

	unlock(s);
	seal(s, "old", 1, &copy);
	run_fails(s, &(struct secret_request){.op = SECRET_REENCRYPT, .sealed = copy.sealed},
		  SECRET_ENCRYPTION,
		  "key_version: it is 1; only data of a version before 1, the newest, is encrypted "
		  "again");
	secret_store_set_version(s->store, 3);
	run(s, &(struct secret_request){.op = SECRET_REENCRYPT, .sealed = copy.sealed});
	assert_true(s->answer.good);
	assert_int_equal(s->answer.sealed.key_version, 3);
	run(s, &(struct secret_request){.op = SECRET_DECRYPT, .sealed = copy.sealed});
	assert_memory_equal(s->answer.bytes.bytes, "old", 3);
}

static uint32_t cached(struct service *s)
{
	run(s, &(struct secret_request){.op = SECRET_STATUS});
	return s->answer.cached;
}

static void derive_nth(struct service *s, unsigned n)
{
	char path[32];

	snprintf(path, sizeof(path), "m/%u'", n);
	run(s, &(struct secret_request){.op = SECRET_DERIVE_ED25519, .path = SPAN(path)});
	assert_true(s->answer.good);
}

static void test_cache(void **state)
{
	struct service *s = *state;
	uint8_t first[32];

	unlock(s);
	derive_nth(s, 0);
	memcpy(first, s->answer.private_key.bytes, 32);
	for (unsigned i = 0; i < 100; i++, s->now++)
		derive_nth(s, i);
	assert_int_equal(cached(s), SECRET_CACHE_KEYS);
	derive_nth(s, 0); /* was thrown out, and is the same */
	assert_memory_equal(s->answer.private_key.bytes, first, 32);
	s->now += SECRET_CACHE_MS - 50;
	assert_true(secret_store_expire(s->store, s->now) <= 50);
	assert_true(cached(s) < SECRET_CACHE_KEYS);
	s->now += 60;
	assert_int_equal(secret_store_expire(s->store, s->now), 0);
	assert_int_equal(cached(s), 0);
	/* By type and path: the same path is another key. */
	derive_nth(s, 1);
	run(s, &(struct secret_request){.op = SECRET_DERIVE_ETHEREUM_KEY, .path = SPAN("m/1'")});
	assert_int_equal(s->answer.type, SECRET_KEY_SECP256K1);
	assert_int_equal(cached(s), 2);
	run(s, &(struct secret_request){.op = SECRET_LOCK});
	assert_int_equal(cached(s), 0);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, service_new, service_free)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_bad_requests),
		TEST(test_answers),
		TEST(test_locked),
		TEST(test_unlock),
		TEST(test_wrong_paths_and_lengths),
		TEST(test_encryption),
		TEST(test_rotation),
		TEST(test_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
