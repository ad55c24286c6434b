/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "iroh.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RELAYS_MAX 32
#define ADDRESSES_MAX 32
#define SERVER_DIR "/var/lib/alknet"
#define SERVER_KEY SERVER_DIR "/iroh_key"

/* ---- what each may be ---- */

/* The helper takes it apart; what is said here is what people get wrong. */
static int relay_check(const char *url, struct alk_err *err)
{
	size_t scheme = strncmp(url, "https://", 8) == 0  ? 8
			: strncmp(url, "http://", 7) == 0 ? 7
							  : 0;

	if (scheme == 0)
		return alk_err_set(
			err, -EINVAL,
			"iroh_relay: \"%.200s\" must be https://HOST[:PORT] (or http://), or none",
			url);
	if (strchr("/:?#", url[scheme]) != NULL || strpbrk(url, " \t\r\n\"<>\\^`{|}@") != NULL ||
	    strlen(url) > 500)
		return alk_err_set(err, -EINVAL, "iroh_relay: \"%.200s\" is not a URL", url);
	return 0;
}

static bool relay_is_none(const struct alk_options *options)
{
	const char *url = alk_options_str(options, "relay");

	return url != NULL && strcmp(url, "none") == 0;
}

static int relays_check(const struct alk_options *options, struct alk_err *err)
{
	const char *url;
	int rc = 0;

	for (size_t i = 0; rc == 0 && (url = alk_options_nth(options, "relay", i)) != NULL; i++) {
		if (i == RELAYS_MAX)
			return alk_err_set(err, -E2BIG, "iroh_relay: there are more than %d",
					   RELAYS_MAX);
		if (strcmp(url, "none") != 0)
			rc = relay_check(url, err);
		else if (i > 0 || alk_options_nth(options, "relay", 1) != NULL)
			rc = alk_err_set(err, -EINVAL, "iroh_relay: none stands beside others");
	}
	return rc;
}

static bool discovers(const struct alk_options *options, const char *where)
{
	const char *one;

	for (size_t i = 0; (one = alk_options_nth(options, "discovery", i)) != NULL; i++)
		if (strcmp(one, where) == 0)
			return true;
	/* Who has relays of his own does not tell n0 of it. */
	return strcmp(where, "n0") == 0 && !alk_options_has(options, "discovery") &&
	       !alk_options_has(options, "relay");
}

static int discovery_check(const struct alk_options *options, struct alk_err *err)
{
	if (discovers(options, "none") && (discovers(options, "n0") || discovers(options, "mdns")))
		return alk_err_set(err, -EINVAL, "iroh_discovery: none stands beside others");
	return 0;
}

/* "ADDR:PORT" with an address in numbers. */
static int place_check(const char *name, const char *text, bool zero_ok, struct alk_err *err)
{
	uint8_t address[16];
	char host[256];
	uint16_t port;
	int rc = alk_addr_split(text, host, sizeof(host), &port, zero_ok, err);

	if (rc == 0 && host[0] != '\0' && inet_pton(AF_INET, host, address) != 1 &&
	    inet_pton(AF_INET6, host, address) != 1)
		rc = alk_err_set(
			err, -EINVAL,
			"must be an IP address and a port, as 192.0.2.1:4433 or [2001:db8::1]:4433, not \"%.200s\"",
			text);
	return rc < 0 ? alk_err_prefix(err, rc, "%s", name) : 0;
}

static int peer_check(const struct alk_options *options, struct alk_err *err)
{
	const char *peer = alk_options_str(options, "peer"), *text;
	uint8_t id[IROH_ID_BYTES];
	int rc = 0;

	if (peer == NULL)
		return alk_err_set(
			err, -EINVAL,
			"peer: the iroh transport knows a server by its endpoint id: give --peer ENDPOINT-ID instead of --server");
	if (iroh_id_parse(peer, id) < 0)
		return alk_err_set(
			err, -EINVAL,
			"peer: \"%.100s\" is no endpoint id: that is 52 characters as the server prints them, or 64 in hex",
			peer);
	for (size_t i = 0; rc == 0 && (text = alk_options_nth(options, "peer_address", i)) != NULL;
	     i++) {
		if (i == ADDRESSES_MAX)
			return alk_err_set(err, -E2BIG, "peer_address: there are more than %d",
					   ADDRESSES_MAX);
		rc = place_check("peer_address", text, false, err);
		if (rc == 0 && text[0] == ':')
			rc = alk_err_set(err, -EINVAL, "peer_address: %s has no address", text);
	}
	return rc;
}

static int bind_check(const char *name, const char *text, struct alk_err *err)
{
	if (strcmp(text, "any") == 0 || strcmp(text, "none") == 0)
		return 0;
	return place_check(name, text, true, err);
}

int iroh_settings_check(const struct alk_options *options, enum alk_role role, struct alk_err *err)
{
	int rc = relays_check(options, err);

	if (rc == 0)
		rc = discovery_check(options, err);
	if (rc == 0)
		rc = bind_check("iroh: bind", alk_options_str(options, "bind"), err);
	if (rc == 0 && role == ALK_ROLE_CLIENT)
		rc = peer_check(options, err);
	return rc;
}

/* ---- what the helper is told ---- */

static json_t *relays_json(const struct alk_options *options)
{
	json_t *list = json_array();
	const char *url;

	for (size_t i = 0;
	     !relay_is_none(options) && (url = alk_options_nth(options, "relay", i)) != NULL; i++)
		json_array_append_new(list, json_string(url));
	return list;
}

/* "any" is an empty list; ":PORT" is every address of both families. */
static json_t *bind_json(const char *address)
{
	json_t *list = json_array();

	if (address[0] == ':') {
		json_array_append_new(list, json_sprintf("0.0.0.0%s", address));
		json_array_append_new(list, json_sprintf("[::]%s", address));
	} else if (strcmp(address, "any") != 0 && strcmp(address, "none") != 0) {
		json_array_append_new(list, json_string(address));
	}
	return list;
}

static int key_add(json_t *start, const struct alk_options *options, bool serve,
		   struct alk_err *err)
{
	const char *path = alk_options_str(options, "key");
	char hex[IROH_ID_HEX];
	int rc;

	if (path == NULL && !serve)
		return 0;
	/* If that fails, the file's error says it. */
	if (path == NULL)
		(void)mkdir(SERVER_DIR, 0755);
	rc = iroh_key_read(path != NULL ? path : SERVER_KEY, hex, err);
	if (rc == 0 && json_object_set_new(start, "key", json_string(hex)) < 0)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	explicit_bzero(hex, sizeof(hex));
	return rc;
}

json_t *iroh_settings_make(const struct alk_options *options, const char *listen,
			   struct alk_err *err)
{
	const char *bind = listen != NULL ? listen : alk_options_str(options, "bind");
	json_t *start;

	if (bind_check(listen != NULL ? "listen" : "iroh: bind", bind, err) < 0)
		return NULL;
	start = json_pack("{s:b, s:o, s:b, s:b, s:b}", "accept", listen != NULL, "bind",
			  bind_json(bind), "direct", strcmp(bind, "none") != 0, "n0",
			  discovers(options, "n0"), "mdns", discovers(options, "mdns"));
	if (start == NULL || (alk_options_has(options, "relay") &&
			      json_object_set_new(start, "relays", relays_json(options)) < 0)) {
		alk_err_set(err, -ENOMEM, "out of memory");
	} else if (key_add(start, options, listen != NULL, err) == 0) {
		return start;
	}
	json_decref(start);
	return NULL;
}
