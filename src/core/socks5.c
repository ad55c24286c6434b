/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "socks5_private.h"

#include <arpa/inet.h>
#include <string.h>
#include "proxy_auth.h"

enum {
	SOCKS_VERSION = 5,
	SOCKS_METHOD_NONE = 0x00,
	SOCKS_METHOD_PASSWORD = 0x02,
	SOCKS_METHOD_REFUSED = 0xff,
	SOCKS_CMD_CONNECT = 1,
	SOCKS_ATYP_IPV4 = 1,
	SOCKS_ATYP_NAME = 3,
	SOCKS_ATYP_IPV6 = 4,
	SOCKS_SUCCEEDED = 0x00,
	SOCKS_FAILURE = 0x01,
	SOCKS_DENIED = 0x02,
	SOCKS_UNREACHABLE = 0x04,
	SOCKS_REFUSED = 0x05,
	SOCKS_TIMEOUT = 0x06,
	SOCKS_BAD_COMMAND = 0x07,
	SOCKS_BAD_ADDRESS = 0x08,
	SOCKS_AUTH_VERSION = 1,
	SOCKS_AUTH_SUCCEEDED = 0x00,
	SOCKS_AUTH_FAILED = 0x01,
	SOCKS4_VERSION = 4,
	SOCKS4_REJECTED = 0x5b,
};

const char *alk_socks5_state_str(enum alk_socks5_state state)
{
	switch (state) {
	case ALK_SOCKS5_START:
		return "start";
	case ALK_SOCKS5_GREETING:
		return "greeting";
	case ALK_SOCKS5_AUTH:
		return "authentication";
	case ALK_SOCKS5_REQUEST:
		return "request";
	case ALK_SOCKS5_HTTP:
		return "http";
	case ALK_SOCKS5_ASKED:
		return "asked";
	case ALK_SOCKS5_DONE:
		return "done";
	case ALK_SOCKS5_FAILED:
		return "failed";
	}
	return "?";
}

void alk_socks5_init(struct alk_socks5 *socks, const char *auth)
{
	memset(socks, 0, sizeof(*socks));
	socks->auth = auth;
}

void alk_socks5_reply(struct alk_socks5 *socks, const void *bytes, size_t n)
{
	size_t room = sizeof(socks->reply) - socks->reply_len;

	if (n > room)
		n = room;
	memcpy(socks->reply + socks->reply_len, bytes, n);
	socks->reply_len += n;
}

static void reply_socks(struct alk_socks5 *socks, uint8_t code)
{
	/* BND.ADDR is 0.0.0.0:0: the address that the server connects from is not told to us. */
	const uint8_t reply[] = {SOCKS_VERSION, code, 0, SOCKS_ATYP_IPV4, 0, 0, 0, 0, 0, 0};

	alk_socks5_reply(socks, reply, sizeof(reply));
}

size_t alk_socks5_fail(struct alk_socks5 *socks, size_t n)
{
	socks->state = ALK_SOCKS5_FAILED;
	return n;
}

static size_t fail_socks(struct alk_socks5 *socks, uint8_t code, size_t n)
{
	reply_socks(socks, code);
	return alk_socks5_fail(socks, n);
}

bool alk_socks5_is_letter(uint8_t c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

bool alk_socks5_is_control(uint8_t c)
{
	return c < 0x20 || c == 0x7f;
}

static size_t feed_start(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	static const uint8_t rejection[8] = {0, SOCKS4_REJECTED};

	if (bytes[0] == SOCKS_VERSION) {
		socks->state = ALK_SOCKS5_GREETING;
		return 0;
	}
	if (alk_socks5_is_letter(bytes[0])) {
		socks->state = ALK_SOCKS5_HTTP;
		socks->http = true;
		return 0;
	}
	if (bytes[0] == SOCKS4_VERSION)
		alk_socks5_reply(socks, rejection, sizeof(rejection));
	return alk_socks5_fail(socks, n);
}

/* VER NMETHODS METHODS... (RFC 1928 3) */
static size_t feed_greeting(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	uint8_t method = socks->auth != NULL ? SOCKS_METHOD_PASSWORD : SOCKS_METHOD_NONE;
	uint8_t reply[2] = {SOCKS_VERSION, method};

	if (n < 2 || n < 2 + (size_t)bytes[1])
		return 0;
	if (memchr(bytes + 2, method, bytes[1]) == NULL) {
		reply[1] = SOCKS_METHOD_REFUSED;
		alk_socks5_reply(socks, reply, sizeof(reply));
		return alk_socks5_fail(socks, n);
	}
	alk_socks5_reply(socks, reply, sizeof(reply));
	socks->state = socks->auth != NULL ? ALK_SOCKS5_AUTH : ALK_SOCKS5_REQUEST;
	return 2 + (size_t)bytes[1];
}

/* VER ULEN UNAME PLEN PASSWD (RFC 1929 2) */
static size_t feed_auth(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	uint8_t reply[2] = {SOCKS_AUTH_VERSION, SOCKS_AUTH_FAILED};
	size_t user_len, password_len;

	if (bytes[0] != SOCKS_AUTH_VERSION) {
		alk_socks5_reply(socks, reply, sizeof(reply));
		return alk_socks5_fail(socks, n);
	}
	if (n < 2 || n < 3 + (size_t)bytes[1])
		return 0;
	user_len = bytes[1];
	password_len = bytes[2 + user_len];
	if (n < 3 + user_len + password_len)
		return 0;
	if (!alk_proxy_auth_match(socks->auth, bytes + 2, user_len, bytes + 3 + user_len,
				  password_len)) {
		socks->denied = true;
		alk_socks5_reply(socks, reply, sizeof(reply));
		return alk_socks5_fail(socks, n);
	}
	reply[1] = SOCKS_AUTH_SUCCEEDED;
	alk_socks5_reply(socks, reply, sizeof(reply));
	socks->state = ALK_SOCKS5_REQUEST;
	return 3 + user_len + password_len;
}

bool alk_socks5_name_set(struct alk_destination *to, const uint8_t *name, size_t len)
{
	if (len == 0 || len >= sizeof(to->host))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (alk_socks5_is_control(name[i]))
			return false;
	}
	memcpy(to->host, name, len);
	to->host[len] = '\0';
	return true;
}

bool alk_socks5_port_ok(const struct alk_destination *to)
{
	return to->port != 0 || strncmp(to->host, "alknet-", 7) == 0;
}

/* Where the address begins and how long it is; bytes[4] is there. */
static bool address_find(const uint8_t *bytes, size_t *at, size_t *len)
{
	*at = 4;
	switch (bytes[3]) {
	case SOCKS_ATYP_IPV4:
		*len = 4;
		return true;
	case SOCKS_ATYP_IPV6:
		*len = 16;
		return true;
	case SOCKS_ATYP_NAME:
		*at = 5;
		*len = bytes[4];
		return true;
	}
	return false;
}

static bool address_set(struct alk_destination *to, uint8_t type, const uint8_t *bytes, size_t len)
{
	if (type == SOCKS_ATYP_NAME)
		return alk_socks5_name_set(to, bytes, len);
	return inet_ntop(type == SOCKS_ATYP_IPV4 ? AF_INET : AF_INET6, bytes, to->host,
			 sizeof(to->host)) != NULL;
}

/* VER CMD RSV ATYP DST.ADDR DST.PORT (RFC 1928 4) */
static size_t feed_request(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	size_t at, len;

	if (bytes[0] != SOCKS_VERSION)
		return fail_socks(socks, SOCKS_FAILURE, n);
	if (n >= 2 && bytes[1] != SOCKS_CMD_CONNECT)
		return fail_socks(socks, SOCKS_BAD_COMMAND, n);
	if (n < 5)
		return 0;
	if (!address_find(bytes, &at, &len))
		return fail_socks(socks, SOCKS_BAD_ADDRESS, n);
	if (n < at + len + 2)
		return 0;
	socks->to.port = (uint16_t)(bytes[at + len] << 8 | bytes[at + len + 1]);
	if (!address_set(&socks->to, bytes[3], bytes + at, len) || !alk_socks5_port_ok(&socks->to))
		return fail_socks(socks, SOCKS_FAILURE, n);
	socks->state = ALK_SOCKS5_ASKED;
	return at + len + 2;
}

size_t alk_socks5_feed(struct alk_socks5 *socks, const uint8_t *bytes, size_t n)
{
	if (n == 0)
		return 0;
	if (socks->state == ALK_SOCKS5_START) {
		size_t consumed = feed_start(socks, bytes, n);

		if (consumed > 0)
			return consumed;
	}
	switch (socks->state) {
	case ALK_SOCKS5_GREETING:
		return feed_greeting(socks, bytes, n);
	case ALK_SOCKS5_AUTH:
		return feed_auth(socks, bytes, n);
	case ALK_SOCKS5_REQUEST:
		return feed_request(socks, bytes, n);
	case ALK_SOCKS5_HTTP:
		return alk_socks5_feed_http(socks, bytes, n);
	case ALK_SOCKS5_START:
	case ALK_SOCKS5_ASKED:
	case ALK_SOCKS5_DONE:
	case ALK_SOCKS5_FAILED:
		break;
	}
	return 0;
}

static uint8_t socks_code(enum alk_open_failure why)
{
	switch (why) {
	case ALK_OPEN_OK:
		return SOCKS_SUCCEEDED;
	case ALK_OPEN_PROHIBITED:
		return SOCKS_DENIED;
	case ALK_OPEN_REFUSED:
		return SOCKS_REFUSED;
	case ALK_OPEN_UNREACHABLE:
	case ALK_OPEN_NAME:
		return SOCKS_UNREACHABLE;
	case ALK_OPEN_TIMEOUT:
		return SOCKS_TIMEOUT;
	case ALK_OPEN_CONNECT_FAILED:
	case ALK_OPEN_UNKNOWN_TYPE:
	case ALK_OPEN_RESOURCE_SHORTAGE:
	case ALK_OPEN_GONE:
		break;
	}
	return SOCKS_FAILURE;
}

void alk_socks5_answer(struct alk_socks5 *socks, enum alk_open_failure why)
{
	if (socks->http)
		alk_socks5_answer_http(socks, why);
	else
		reply_socks(socks, socks_code(why));
	socks->state = why == ALK_OPEN_OK ? ALK_SOCKS5_DONE : ALK_SOCKS5_FAILED;
}
