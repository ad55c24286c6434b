/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <alknet/dial.h>
#include "proxy_header.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4_ADDRS "\xc0\0\2\1\x0a\0\0\1\x30\x39\0\x16" /* 192.0.2.1:12345 to 10.0.0.1:22 */
#define BYTES(text_) (text_), sizeof(text_) - 1

static void format(const struct alk_sockaddr *addr, char *out, size_t size)
{
	char host[64];
	uint16_t port;

	alk_addr_format(&addr->sa, addr->len, host, sizeof(host), &port);
	snprintf(out, size, "%s %u", host, (unsigned)port);
}

static int parse(const char *bytes, size_t n, struct alk_proxy_header *out, struct alk_err *err)
{
	ssize_t size = alk_proxy_header_size((const uint8_t *)bytes, n, err);

	if (size < 0)
		return (int)size;
	assert_int_equal(size, (ssize_t)n);
	return alk_proxy_header_parse((const uint8_t *)bytes, n, out, err);
}

static void test_made_and_read(void **state)
{
	static const struct {
		const char *remote;
		const char *local;
		size_t size;
		bool has_addrs;
	} made[] = {
		{"192.0.2.1", "10.0.0.1", 28, true}, {"2001:db8::1", "fd00::2", 52, true},
		{"192.0.2.1", "fd00::2", 16, false}, {"unix", "unix", 16, false},
		{"0123456789abcdef", "", 16, false},
	};
	uint8_t bytes[ALK_PROXY_HEADER_MADE];

	(void)state;
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
		struct alk_proxy_header header;
		struct alk_err err = {""};
		char text[80], want[80];
		size_t n = alk_proxy_header_make(bytes, made[i].remote, 12345, made[i].local, 22);

		assert_int_equal(n, made[i].size);
		assert_int_equal(parse((const char *)bytes, n, &header, &err), 0);
		assert_int_equal(header.has_addrs, made[i].has_addrs);
		if (!header.has_addrs)
			continue;
		format(&header.remote, text, sizeof(text));
		snprintf(want, sizeof(want), "%s 12345", made[i].remote);
		assert_string_equal(text, want);
		format(&header.local, text, sizeof(text));
		snprintf(want, sizeof(want), "%s 22", made[i].local);
		assert_string_equal(text, want);
	}
}

static void test_good(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		bool has_addrs;
	} good[] = {
		{BYTES(SIGNATURE "\x21\x11\0\x0c" V4_ADDRS), true},
		/* LOCAL, whatever else it says */
		{BYTES(SIGNATURE "\x20\0\0\0"), false},
		{BYTES(SIGNATURE "\x20\x11\0\x0c" V4_ADDRS), false},
		{BYTES(SIGNATURE "\x20\xff\0\1x"), false},
		/* of no known family: what follows is passed over */
		{BYTES(SIGNATURE "\x21\0\0\3xyz"), false},
		/* two TLVs, ALPN and NOOP */
		{BYTES(SIGNATURE "\x21\x11\0\x15" V4_ADDRS "\1\0\2h2\4\0\1\0"), true},
		/* a checksum; made with another implementation, checked with "123456789" =
		 * 0xe3069283 */
		{BYTES(SIGNATURE "\x21\x11\0\x13" V4_ADDRS "\3\0\4"
				 "\xab\x51\x99\x8d"),
		 true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct alk_proxy_header header;
		struct alk_err err = {""};

		if (parse(good[i].bytes, good[i].n, &header, &err) != 0)
			fail_msg("%zu: %s", i, err.text);
		assert_int_equal(header.has_addrs, good[i].has_addrs);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *says;
	} bad[] = {
		{BYTES("S"), "does not begin"},
		{BYTES("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), "does not begin"},
		{BYTES("\r\n\r\n\0\r\nQUIT\r"), "does not begin"},
		{BYTES(SIGNATURE "\x11"), "another version"},
		{BYTES(SIGNATURE "\x21\x11\xff\xff"), "longer than 4096"},
		{BYTES(SIGNATURE "\x22\x11\0\x0c" V4_ADDRS), "unknown command"},
		{BYTES(SIGNATURE "\x21\x12\0\x0c" V4_ADDRS), "unknown family or protocol"},
		{BYTES(SIGNATURE "\x21\x41\0\x0c" V4_ADDRS), "unknown family or protocol"},
		{BYTES(SIGNATURE "\x21\x10\0\x0c" V4_ADDRS), "unknown family or protocol"},
		{BYTES(SIGNATURE "\x21\x11\0\0"), "too short"},
		{BYTES(SIGNATURE "\x21\x21\0\x0c" V4_ADDRS), "too short"},
		{BYTES(SIGNATURE "\x21\x31\0\x0c" V4_ADDRS), "too short"},
		{BYTES(SIGNATURE "\x21\x11\0\x0e" V4_ADDRS "\1\0"), "within one of its fields"},
		{BYTES(SIGNATURE "\x21\x11\0\x0f" V4_ADDRS "\1\0\1"), "within one of its fields"},
		{BYTES(SIGNATURE "\x21\x11\0\x0f" V4_ADDRS "\1\xff\xff"),
		 "within one of its fields"},
		{BYTES(SIGNATURE "\x21\x11\0\x13" V4_ADDRS "\3\0\4wxyz"), "checksum is wrong"},
		{BYTES(SIGNATURE "\x21\x11\0\x12" V4_ADDRS "\3\0\3xyz"), "checksum is not 4"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct alk_proxy_header header;
		struct alk_err err = {""};

		assert_int_equal(parse(bad[i].bytes, bad[i].n, &header, &err), -EPROTO);
		if (strstr(err.text, bad[i].says) == NULL)
			fail_msg("%zu: \"%s\" does not say \"%s\"", i, err.text, bad[i].says);
	}
}

/* As long as it could still be one nothing is said. */
static void test_prefixes(void **state)
{
	static const char whole[] = SIGNATURE "\x21\x11\0\x0c";
	struct alk_err err = {""};

	(void)state;
	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		assert_int_equal(alk_proxy_header_size((const uint8_t *)whole, n, &err), 0);
	assert_int_equal(alk_proxy_header_size((const uint8_t *)whole, sizeof(whole) - 1, &err),
			 28);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_and_read),
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_prefixes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
