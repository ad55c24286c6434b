/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Private keys that are not taken up twice: the same key for the same bytes, for a server's session
 * alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include "../../src/cmd/pkey_syms.c"

#define BYTES 32

/* As libssh signs with a host key: from its bytes, once more each time. */
static EVP_PKEY *take_up(int type, const uint8_t *bytes)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(type, NULL, bytes, BYTES);

	assert_non_null(key);
	assert_int_equal(EVP_PKEY_get_id(key), type);
	return key;
}

static void public_of(const EVP_PKEY *key, uint8_t out[BYTES])
{
	size_t len = BYTES;

	assert_int_equal(EVP_PKEY_get_raw_public_key(key, out, &len), 1);
	assert_int_equal(len, BYTES);
}

/* As libssh makes a key of X25519: only its bytes stay. */
static EVP_PKEY *make_exchange(uint8_t bytes[BYTES])
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	size_t len = BYTES;

	assert_non_null(key);
	assert_int_equal(EVP_PKEY_get_raw_private_key(key, bytes, &len), 1);
	return key;
}

static int teardown(void **state)
{
	(void)state;
	alk_pkey_keep_work(false);
	alk_pkey_keep_forget();
	return 0;
}

static void test_a_host_key_is_taken_up_once(void **state)
{
	uint8_t one[BYTES] = {1}, two[BYTES] = {2}, expected[BYTES], got[BYTES];
	EVP_PKEY *plain = take_up(EVP_PKEY_ED25519, one), *first, *again, *other;

	(void)state;
	public_of(plain, expected);
	alk_pkey_keep_work(true);
	first = take_up(EVP_PKEY_ED25519, one);
	again = take_up(EVP_PKEY_ED25519, one);
	other = take_up(EVP_PKEY_ED25519, two);
	assert_ptr_not_equal(first, plain);
	assert_ptr_equal(first, again);
	assert_ptr_not_equal(first, other);
	/* Whoever frees its own has no one else's freed. */
	EVP_PKEY_free(first);
	EVP_PKEY_free(again);
	first = take_up(EVP_PKEY_ED25519, one);
	public_of(first, got);
	assert_memory_equal(got, expected, BYTES);
	EVP_PKEY_free(first);
	EVP_PKEY_free(other);
	EVP_PKEY_free(plain);
}

static void test_so_many_host_keys_are_kept(void **state)
{
	uint8_t bytes[BYTES] = {0};
	EVP_PKEY *keys[ALK_PKEY_KEEP_HOSTS + 1];

	(void)state;
	alk_pkey_keep_work(true);
	for (uint8_t i = 0; i <= ALK_PKEY_KEEP_HOSTS; i++) {
		bytes[0] = i;
		keys[i] = take_up(EVP_PKEY_ED25519, bytes);
	}
	for (uint8_t i = 0; i <= ALK_PKEY_KEEP_HOSTS; i++) {
		EVP_PKEY *found;

		bytes[0] = i;
		found = alk_pkey_keep_find(EVP_PKEY_ED25519, bytes, BYTES);
		assert_ptr_equal(found, i == 0 ? NULL : keys[i]);
		EVP_PKEY_free(found);
		EVP_PKEY_free(keys[i]);
	}
}

static void test_a_key_of_an_exchange_is_given_once(void **state)
{
	uint8_t bytes[BYTES], other[BYTES] = {7};
	EVP_PKEY *made, *taken;

	(void)state;
	alk_pkey_keep_work(true);
	made = make_exchange(bytes);
	assert_null(alk_pkey_keep_find(EVP_PKEY_X25519, other, BYTES));
	assert_null(alk_pkey_keep_find(EVP_PKEY_ED25519, bytes, BYTES));
	taken = take_up(EVP_PKEY_X25519, bytes);
	assert_ptr_equal(taken, made);
	assert_null(alk_pkey_keep_find(EVP_PKEY_X25519, bytes, BYTES));
	EVP_PKEY_free(made);
	EVP_PKEY_free(taken);
}

static void test_the_last_exchange_counts(void **state)
{
	uint8_t first[BYTES], second[BYTES];
	EVP_PKEY *a, *b, *found;

	(void)state;
	alk_pkey_keep_work(true);
	a = make_exchange(first);
	b = make_exchange(second);
	assert_null(alk_pkey_keep_find(EVP_PKEY_X25519, first, BYTES));
	found = alk_pkey_keep_find(EVP_PKEY_X25519, second, BYTES);
	assert_ptr_equal(found, b);
	EVP_PKEY_free(a);
	EVP_PKEY_free(b);
	EVP_PKEY_free(found);
}

static void test_nothing_of_anybody_else_is_kept(void **state)
{
	uint8_t bytes[BYTES] = {3}, exchange[BYTES];
	EVP_PKEY *one = take_up(EVP_PKEY_ED25519, bytes), *two = make_exchange(exchange);

	(void)state;
	alk_pkey_keep_work(true);
	assert_null(alk_pkey_keep_find(EVP_PKEY_ED25519, bytes, BYTES));
	assert_null(alk_pkey_keep_find(EVP_PKEY_X25519, exchange, BYTES));
	EVP_PKEY_free(one);
	EVP_PKEY_free(two);
	/* Nor is what is kept given to anybody else. */
	one = take_up(EVP_PKEY_ED25519, bytes);
	alk_pkey_keep_work(false);
	assert_null(alk_pkey_keep_find(EVP_PKEY_ED25519, bytes, BYTES));
	EVP_PKEY_free(one);
}

static void test_forgotten_is_gone(void **state)
{
	uint8_t bytes[BYTES] = {4}, exchange[BYTES];
	EVP_PKEY *one, *two;

	(void)state;
	alk_pkey_keep_work(true);
	one = take_up(EVP_PKEY_ED25519, bytes);
	two = make_exchange(exchange);
	alk_pkey_keep_forget();
	assert_null(alk_pkey_keep_find(EVP_PKEY_ED25519, bytes, BYTES));
	assert_null(alk_pkey_keep_find(EVP_PKEY_X25519, exchange, BYTES));
	EVP_PKEY_free(one);
	EVP_PKEY_free(two);
}

static void test_what_is_no_key_stays_refused(void **state)
{
	static const uint8_t bytes[BYTES + 1];

	(void)state;
	alk_pkey_keep_work(true);
	assert_null(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, bytes, BYTES + 1));
	assert_null(EVP_PKEY_new_raw_private_key(EVP_PKEY_RSA, NULL, bytes, BYTES));
	assert_null(EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, bytes, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_a_host_key_is_taken_up_once, teardown),
		cmocka_unit_test_teardown(test_so_many_host_keys_are_kept, teardown),
		cmocka_unit_test_teardown(test_a_key_of_an_exchange_is_given_once, teardown),
		cmocka_unit_test_teardown(test_the_last_exchange_counts, teardown),
		cmocka_unit_test_teardown(test_nothing_of_anybody_else_is_kept, teardown),
		cmocka_unit_test_teardown(test_forgotten_is_gone, teardown),
		cmocka_unit_test_teardown(test_what_is_no_key_stays_refused, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
