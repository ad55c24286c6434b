/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "policy_private.h"

/* The tables that describe a question. Peers' texts are cut; nothing is nil. */

static void push_cut(lua_State *L, const char *text)
{
	size_t len = strlen(text);

	lua_pushlstring(L, text, len < ALK_POLICY_TEXT_MAX ? len : ALK_POLICY_TEXT_MAX);
}

/* Nothing is nil in Lua: "" would be true. */
static void set_text(lua_State *L, const char *key, const char *text)
{
	if (!text || !*text)
		return;
	push_cut(L, text);
	lua_setfield(L, -2, key);
}

static void set_port(lua_State *L, const char *key, uint16_t port)
{
	if (port == 0)
		return;
	lua_pushinteger(L, port);
	lua_setfield(L, -2, key);
}

static void push_link(lua_State *L, const struct alk_link *link)
{
	lua_createtable(L, 0, 8);
	set_text(L, "transport", link->transport);
	set_text(L, "remote_addr", link->remote_addr);
	set_port(L, "remote_port", link->remote_port);
	set_text(L, "local_addr", link->local_addr);
	set_port(L, "local_port", link->local_port);
	set_text(L, "sni", link->sni);
	set_text(L, "alpn", link->alpn);
	set_text(L, "peer_id", link->peer_id);
}

static void set_list(lua_State *L, const char *key, char *const *list)
{
	lua_Integer i;

	lua_newtable(L);
	for (i = 0; list && list[i]; i++) {
		push_cut(L, list[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, key);
}

static void push_identity(lua_State *L, const struct alk_grant *grant)
{
	lua_createtable(L, 0, 3);
	if (grant)
		set_text(L, "id", grant->identity.id);
	set_list(L, "scopes", grant ? grant->scopes : NULL);
	set_list(L, "resources", grant ? grant->resources : NULL);
}

static void push_session(lua_State *L, const struct alk_ask *ask)
{
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, (lua_Integer)ask->session);
	lua_setfield(L, -2, "id");
	set_text(L, "user", ask->user);
	push_identity(L, ask->grant);
	lua_setfield(L, -2, "identity");
	if (!ask->link)
		return; /* not from a session: a program on this machine, another server, the administrator */
	push_link(L, ask->link);
	lua_setfield(L, -2, "link");
}

/* The list of names and values becomes a table. Two of one name cannot be: cert.c refuses them. */
static void set_options(lua_State *L, const char *key, const char *const *list)
{
	lua_newtable(L);
	for (; list && list[0]; list += 2) {
		push_cut(L, list[0]);
		push_cut(L, list[1]);
		lua_rawset(L, -3);
	}
	lua_setfield(L, -2, key);
}

static void set_seconds(lua_State *L, const char *key, uint64_t seconds)
{
	if (seconds > INT64_MAX)
		return;
	lua_pushinteger(L, (lua_Integer)seconds);
	lua_setfield(L, -2, key);
}

/* The serial number is a text: Lua's integers have a sign, and end before it does. */
static void push_cert(lua_State *L, const struct alk_ask_cert *cert)
{
	char serial[24];

	lua_createtable(L, 0, 8);
	set_text(L, "key_id", cert->key_id);
	snprintf(serial, sizeof(serial), "%" PRIu64, cert->serial);
	set_text(L, "serial", serial);
	set_text(L, "ca_fingerprint", cert->ca_fingerprint);
	set_list(L, "principals", (char *const *)cert->principals);
	set_options(L, "critical_options", cert->critical_options);
	set_options(L, "extensions", cert->extensions);
	set_seconds(L, "valid_after", cert->valid_after);
	set_seconds(L, "valid_before", cert->valid_before);
}

static void push_request(lua_State *L, const struct alk_ask *ask)
{
	lua_createtable(L, 0, 5);
	set_text(L, "user", ask->user);
	set_text(L, "key_type", ask->key_type);
	set_text(L, "key_fingerprint", ask->key_fingerprint);
	/* Not cut: half a key would be equal to another's half. */
	if (ask->key && strlen(ask->key) <= ALK_POLICY_KEY_MAX) {
		lua_pushstring(L, ask->key);
		lua_setfield(L, -2, "key");
	}
	if (ask->cert) {
		push_cert(L, ask->cert);
		lua_setfield(L, -2, "certificate");
	}
	push_link(L, ask->link);
	lua_setfield(L, -2, "link");
}

static void push_destination(lua_State *L, const struct alk_destination *to)
{
	lua_createtable(L, 0, 6);
	push_cut(L, to->host);
	lua_setfield(L, -2, "host");
	lua_pushinteger(L, to->port);
	lua_setfield(L, -2, "port");
	set_text(L, "path", to->path);
	set_text(L, "originator", to->originator);
	set_port(L, "originator_port", to->originator_port);
	lua_pushboolean(L, alk_destination_reserved(to->host));
	lua_setfield(L, -2, "reserved");
}

static void push_bind(lua_State *L, const struct alk_ask *ask)
{
	const struct alk_destination *to = ask->to;

	lua_createtable(L, 0, 5);
	push_cut(L, to->host);
	lua_setfield(L, -2, "host");
	lua_pushinteger(L, to->port);
	lua_setfield(L, -2, "port");
	set_text(L, "path", to->path);
	lua_pushboolean(L, alk_bind_is_loopback(to));
	lua_setfield(L, -2, "loopback");
	lua_pushboolean(L, ask->gateway_ports);
	lua_setfield(L, -2, "gateway_ports");
}

static void push_envelope(lua_State *L, const struct alk_ask *ask)
{
	lua_createtable(L, 0, 3);
	set_text(L, "type", ask->name);
	push_cut(L, ask->id);
	lua_setfield(L, -2, "id");
	lua_pushinteger(L, (lua_Integer)ask->size);
	lua_setfield(L, -2, "size");
}

/* What came is whole: alk_policy_json_fits() was asked. */
static void push_value(lua_State *L, const struct alk_ask *ask)
{
	if (!alk_policy_json_push(L, ask->value))
		luaL_error(L, "a value that Lua has not");
}

static void push_event(lua_State *L, const struct alk_ask *ask)
{
	push_envelope(L, ask);
	push_value(L, ask);
	lua_setfield(L, -2, "payload");
}

static void push_stats(lua_State *L, const struct alk_ask *ask)
{
	lua_createtable(L, 0, 2);
	lua_pushnumber(L, ask->duration);
	lua_setfield(L, -2, "duration");
	set_text(L, "reason", ask->reason);
}

int alk_policy_push_ask(lua_State *L, const struct alk_ask *ask)
{
	switch (ask->question) {
	case ALK_QUESTION_LINK:
		push_link(L, ask->link);
		return 1;
	case ALK_QUESTION_AUTH:
		push_request(L, ask);
		return 1;
	case ALK_QUESTION_OPEN:
		push_session(L, ask);
		push_destination(L, ask->to);
		return 2;
	case ALK_QUESTION_LISTEN:
		push_session(L, ask);
		push_bind(L, ask);
		return 2;
	case ALK_QUESTION_PUBLISH:
		push_session(L, ask);
		push_envelope(L, ask);
		return 2;
	case ALK_QUESTION_SUBSCRIBE:
	case ALK_QUESTION_CALL:
		push_session(L, ask);
		push_cut(L, ask->name);
		return 2;
	case ALK_QUESTION_EVENT:
		push_event(L, ask);
		return 1;
	case ALK_QUESTION_OPERATION:
		push_value(L, ask);
		push_session(L, ask);
		return 2;
	case ALK_QUESTION_CLOSE:
		push_session(L, ask);
		push_stats(L, ask);
		return 2;
	case ALK_QUESTION_COUNT:
		break;
	}
	return luaL_error(L, "no such question");
}
