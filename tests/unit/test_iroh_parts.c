/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Ids as text, the head of a request to the proxy on loopback, and what the helper says. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../src/plugins/transports/iroh/iroh_head.h"
#include "../../src/plugins/transports/iroh/iroh_id.h"
#include "../../src/plugins/transports/iroh/iroh_packet.h"

#define ID "yoffftrapxnasezjh8b4mxep7et8gtgzuajo3btnfbo1jrghdj8o"
#define WORD "Basic YTpi"
#define ALLOWED "Proxy-Authorization: " WORD "\r\n"

static void test_id(void **state)
{
	static const uint8_t zero[IROH_ID_BYTES];
	uint8_t id[IROH_ID_BYTES], ones[IROH_ID_BYTES];
	char text[IROH_ID_Z32], hex[IROH_ID_HEX];

	(void)state;
	iroh_id_z32(zero, text);
	assert_string_equal(text, "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
	memset(ones, 0xff, sizeof(ones));
	iroh_id_z32(ones, text);
	assert_string_equal(text, "999999999999999999999999999999999999999999999999999o");
	assert_int_equal(iroh_id_parse(ID, id), 0);
	iroh_id_z32(id, text);
	assert_string_equal(text, ID);
	iroh_id_hex(id, hex);
	memset(ones, 0, sizeof(ones));
	assert_int_equal(iroh_id_parse(hex, ones), 0);
	assert_memory_equal(id, ones, sizeof(id));
}

static void test_no_id(void **state)
{
	static const char *const bad[] = {
		"",
		"nonsense",
		"Yoffftrapxnasezjh8b4mxep7et8gtgzuajo3btnfbo1jrghdj8o", /* no capitals */
		"loffftrapxnasezjh8b4mxep7et8gtgzuajo3btnfbo1jrghdj8o", /* no l */
		"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyb", /* bits behind the end */
		"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
		"000000000000000000000000000000000000000000000000000000000000000",
		"g000000000000000000000000000000000000000000000000000000000000000",
	};
	uint8_t id[IROH_ID_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(iroh_id_parse(bad[i], id), -EINVAL);
}

static int parse(const char *text, struct iroh_head *head)
{
	return iroh_head_parse((const uint8_t *)text, strlen(text), WORD, head);
}

static void test_head(void **state)
{
	static const char connect[] = "CONNECT relay.example:443 HTTP/1.1\r\n" ALLOWED "\r\n";
	struct iroh_head head;

	(void)state;
	assert_int_equal(parse(connect, &head), sizeof(connect) - 1);
	assert_true(head.connect);
	assert_string_equal(head.host, "relay.example");
	assert_int_equal(head.port, 443);
	assert_true(
		parse("GET http://[2001:db8::1]:81/a?b HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n" ALLOWED
		      "\r\nnext",
		      &head) > 0);
	assert_false(head.connect);
	assert_string_equal(head.host, "2001:db8::1");
	assert_int_equal(head.port, 81);
	assert_string_equal(head.forward,
			    "GET /a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_true(parse("GET http://relay.example HTTP/1.1\r\n" ALLOWED "\r\n", &head) > 0);
	assert_int_equal(head.port, 80);
	assert_string_equal(head.forward, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
}

static void test_no_head(void **state)
{
	char large[IROH_HEAD_MAX + 100];
	struct iroh_head head;

	(void)state;
	assert_int_equal(parse("CONNECT relay.example:443 HTTP/1.1\r\n" ALLOWED, &head), 0);
	assert_int_equal(parse("CONNECT a:1 HTTP/1.1\r\n\r\n", &head), -EACCES);
	assert_int_equal(parse("CONNECT a:1 HTTP/1.1\r\nProxy-Authorization: Basic YTpi=\r\n\r\n",
			       &head),
			 -EACCES);
	assert_int_equal(parse("CONNECT a:0 HTTP/1.1\r\n" ALLOWED "\r\n", &head), -EINVAL);
	assert_int_equal(parse("CONNECT a HTTP/1.1\r\n" ALLOWED "\r\n", &head), -EINVAL);
	assert_int_equal(parse("CONNECT b@a:1 HTTP/1.1\r\n" ALLOWED "\r\n", &head), -EINVAL);
	assert_int_equal(parse("GET /ping HTTP/1.1\r\n" ALLOWED "\r\n", &head), -EINVAL);
	assert_int_equal(parse("GET https://a/ HTTP/1.1\r\n" ALLOWED "\r\n", &head), -EINVAL);
	assert_int_equal(parse("CONNECT a:1 HTTP/2\r\n" ALLOWED "\r\n", &head), -EINVAL);
	assert_int_equal(parse("GET http://a/ HTTP/1.1\r\nA: b\nC: d\r\n" ALLOWED "\r\n", &head),
			 -EINVAL);
	assert_int_equal(parse("GET http://a/\n HTTP/1.1\r\n" ALLOWED "\r\n", &head), -EINVAL);
	assert_int_equal(parse("GET http://a/ HTTP/1.1\r\nA: \tb\rc\r\n" ALLOWED "\r\n", &head),
			 -EINVAL);
	assert_int_equal(parse("CONNECT a:1 HTTP/1.1\r\nno field\r\n" ALLOWED "\r\n", &head),
			 -EINVAL);
	memset(large, 'a', sizeof(large));
	assert_int_equal(iroh_head_parse((const uint8_t *)large, sizeof(large), WORD, &head),
			 -E2BIG);
}

static int hear(const char *text, struct iroh_packet *packet)
{
	return iroh_packet_parse((const uint8_t *)text, strlen(text), packet);
}

static void test_packets(void **state)
{
	struct iroh_packet packet;

	(void)state;
	assert_int_equal(
		hear("{\"path\":{\"link\":7,\"relayed\":true,\"via\":\"https://r/\",\"rtt_us\":12}}",
		     &packet),
		0);
	assert_int_equal(packet.kind, IROH_PACKET_PATH);
	assert_int_equal(packet.link, 7);
	assert_true(packet.relayed);
	assert_string_equal(packet.text, "https://r/");
	assert_int_equal(packet.rtt_us, 12);
	assert_int_equal(hear("{\"failed\":\"a\\u001b[2Jb\"}", &packet), 0);
	assert_string_equal(packet.text, "a?[2Jb");
	assert_int_equal(hear("{\"online\":{}}", &packet), 0);
	assert_string_equal(packet.text, "");
}

static void test_no_packets(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"other\":{}}",
		"{\"gone\":{\"link\":-1}}",
		"{\"gone\":{\"link\":1.5}}",
		"{\"gone\":{\"link\":1,\"more\":1}}",
		"{\"gone\":{\"link\":1},\"failed\":\"x\"}",
		"{\"gone\":{\"link\":1},\"gone\":{\"link\":2}}",
		"{\"link\":{\"link\":1,\"dial\":0,\"peer\":\"00\"}}",
		"{\"ready\":{\"id\":\"" ID "\",\"bound\":[]}}",
		"{\"failed\":{}}",
	};
	struct iroh_packet packet;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(hear(bad[i], &packet), -EINVAL);
		assert_int_equal(packet.kind, IROH_PACKET_NONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_id),	cmocka_unit_test(test_no_id),
		cmocka_unit_test(test_head),	cmocka_unit_test(test_no_head),
		cmocka_unit_test(test_packets), cmocka_unit_test(test_no_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
