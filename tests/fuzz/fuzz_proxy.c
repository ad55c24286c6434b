/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What an outbound proxy answers: however the bytes are cut, it comes to the same end, and no byte
 * of the destination is taken. The first byte of the input chooses: bit 0 HTTP, bit 1 a login, the
 * rest how many bytes come at a time (0 = all). */
#include <stdlib.h>
#include <string.h>

#include "proxy_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static size_t feed(struct alk_proxy_wire *wire, const struct alk_proxy_url *url,
		   const uint8_t *bytes, size_t n, size_t step)
{
	size_t at = 0;
	struct alk_err err;

	require(alk_proxy_wire_init(wire, url, "example.com", 80, &err) == 0);
	require(wire->out_len > 0);
	while (at < n && wire->state < ALK_PROXY_OPEN) {
		size_t give = step == 0 || n - at < step ? n - at : step, taken;

		wire->out_len = 0;
		taken = alk_proxy_wire_feed(wire, bytes + at, give);
		require(taken <= give);
		require(taken > 0);
		require(wire->out_len <= sizeof(wire->out));
		require(taken == give || wire->out_len > 0 || wire->state >= ALK_PROXY_OPEN);
		at += taken;
	}
	if (wire->state < ALK_PROXY_OPEN)
		alk_proxy_wire_eof(wire);
	require(wire->state == ALK_PROXY_OPEN ||
		(wire->state == ALK_PROXY_FAILED && wire->rc < 0 && wire->err.text[0] != '\0'));
	return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_proxy_url url = {.kind = ALK_PROXY_SOCKS5, .user = "u", .password = "p"};
	struct alk_proxy_wire whole, cut;
	size_t taken_whole, taken_cut;

	if (n == 0)
		return 0;
	if ((bytes[0] & 1) != 0)
		url.kind = ALK_PROXY_HTTP;
	url.has_login = (bytes[0] & 2) != 0;
	taken_whole = feed(&whole, &url, bytes + 1, n - 1, 0);
	taken_cut = feed(&cut, &url, bytes + 1, n - 1, bytes[0] >> 2);
	require(taken_whole == taken_cut);
	require(whole.state == cut.state);
	require(whole.rc == cut.rc);
	require(strcmp(whole.err.text, cut.err.text) == 0);
	return 0;
}
