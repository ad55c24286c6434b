/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The proxy port's state machine: however the bytes are cut, it comes to the same end. The first
 * byte of the input says how many bytes come at a time (its lower 7 bits, 0 = all) and whether a
 * login is asked for (the upper one). */
#include "socks5.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static size_t feed(struct alk_socks5 *socks, const uint8_t *bytes, size_t n, size_t step,
		   const char *auth)
{
	size_t begin = 0, end = 0;

	alk_socks5_init(socks, auth);
	while (end < n && socks->state < ALK_SOCKS5_ASKED) {
		size_t taken;

		end = step == 0 || n - end < step ? n : end + step;
		do {
			taken = alk_socks5_feed(socks, bytes + begin, end - begin);
			require(taken <= end - begin);
			require(socks->reply_len <= sizeof(socks->reply));
			begin += taken;
		} while (taken > 0 && socks->state < ALK_SOCKS5_ASKED);
		/* A caller that holds so much has no room for more. */
		require(end - begin < ALK_SOCKS5_HEAD_MAX || socks->state >= ALK_SOCKS5_ASKED);
	}
	return begin;
}

static void check_destination(const struct alk_destination *to)
{
	size_t len = strnlen(to->host, sizeof(to->host));

	require(len > 0 && len < sizeof(to->host));
	require(to->port != 0 || strncmp(to->host, "alknet-", 7) == 0);
	require(to->path[0] == '\0');
	for (size_t i = 0; i < len; i++)
		require((uint8_t)to->host[i] >= 0x20 && to->host[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_socks5 whole, cut;
	size_t taken_whole, taken_cut;
	const char *auth;

	if (n == 0)
		return 0;
	auth = bytes[0] & 0x80 ? "a:b\nanna:secret\n" : NULL;
	taken_whole = feed(&whole, bytes + 1, n - 1, 0, auth);
	taken_cut = feed(&cut, bytes + 1, n - 1, bytes[0] & 0x7f, auth);
	require(!whole.denied || (auth != NULL && whole.state == ALK_SOCKS5_FAILED));
	require(whole.state == cut.state);
	require(whole.reply_len == cut.reply_len);
	require(memcmp(whole.reply, cut.reply, whole.reply_len) == 0);
	if (whole.state != ALK_SOCKS5_ASKED)
		return 0;
	require(taken_whole == taken_cut);
	check_destination(&whole.to);
	require(memcmp(&whole.to, &cut.to, sizeof(whole.to)) == 0);
	for (int why = ALK_OPEN_OK; why <= ALK_OPEN_GONE; why++) {
		struct alk_socks5 copy = whole;

		alk_socks5_answer(&copy, (enum alk_open_failure)why);
		require(copy.reply_len > 0 && copy.reply_len <= sizeof(copy.reply));
	}
	return 0;
}
