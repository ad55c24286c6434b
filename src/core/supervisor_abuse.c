/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Who is turned away: sources whose misdeeds added up, and networks that an operator banned. All of
 * it is here, so it holds across workers and goes on through reloads. */
#include "supervisor_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BAN_SECONDS_MAX (10LL * 365 * 86400)

void supervisor_abuse_adopt(struct alk_supervisor *sup)
{
	static const char *const loopback[] = {"127.0.0.0/8", "::1"};
	struct alk_err err;
	const char *text;
	size_t n = 0;

	/* Both were checked with the configuration. */
	alk_misdeed_parse(alk_options_str(sup->values, "source_penalties"), &sup->misdeeds, &err);
	sup->n_exempt = 0;
	for (; n < ALK_PENALTY_EXEMPT_MAX &&
	       (text = alk_options_nth(sup->values, "penalty_exempt", n)) != NULL;
	     n++)
		sup->n_exempt += alk_cidr_parse(&sup->exempt[sup->n_exempt], text) == NULL;
	for (size_t i = 0; n == 0 && i < sizeof(loopback) / sizeof(loopback[0]); i++)
		sup->n_exempt += alk_cidr_parse(&sup->exempt[sup->n_exempt], loopback[i]) == NULL;
}

bool supervisor_abuse_exempt(const struct alk_supervisor *sup, const char *addr)
{
	struct in6_addr in6;
	bool v4;

	if (!alk_cidr_address(addr, &in6, &v4))
		return false;
	for (size_t i = 0; i < sup->n_exempt; i++)
		if (alk_cidr_has(&sup->exempt[i], &in6))
			return true;
	return false;
}

void supervisor_misdeed(struct alk_supervisor *sup, const char *addr, enum alk_misdeed misdeed)
{
	const struct alk_misdeed_conf *conf = &sup->misdeeds;
	uint64_t now = alk_loop_now(sup->loop);
	char key[64];

	sup->misdone[misdeed]++;
	if (conf->ms[misdeed] == 0 || supervisor_abuse_exempt(sup, addr))
		return;
	alk_limit_key(addr, key, sizeof(key));
	if (alk_penalty_grow(sup->penalty, ALK_PENALTY_ADDRESS, key, now, conf->ms[misdeed],
			     conf->min_ms, conf->max_ms))
		alk_log(ALK_LOG_WARN, "source penalised", ALK_STR("remote_addr", addr),
			ALK_STR("network", key), ALK_STR("reason", alk_misdeed_str(misdeed)),
			ALK_INT("seconds",
				(int64_t)(alk_penalty_left(sup->penalty, ALK_PENALTY_ADDRESS, key,
							   now) /
					  1000)));
}

enum alk_refusal supervisor_abuse_judge(struct alk_supervisor *sup, const char *addr)
{
	uint64_t now = alk_loop_now(sup->loop);
	char key[64];

	if (alk_bans_has(sup->bans, addr, now))
		return ALK_REFUSAL_BAN;
	alk_limit_key(addr, key, sizeof(key));
	return alk_penalty_left(sup->penalty, ALK_PENALTY_ADDRESS, key, now) > 0
		       ? ALK_REFUSAL_PENALTY
		       : ALK_REFUSAL_NONE;
}

/* Metrics */

static void count_address(void *user, enum alk_penalty_kind kind, const char *name, uint64_t left)
{
	(void)name, (void)left;
	*(unsigned *)user += kind == ALK_PENALTY_ADDRESS;
}

void supervisor_abuse_metrics(const struct alk_supervisor *sup, struct alk_metrics_text *out)
{
	uint64_t now = alk_loop_now(sup->loop);
	unsigned penalised = 0;
	char labels[64];

	alk_penalty_each(sup->penalty, now, count_address, &penalised);
	alk_metrics_own(out, ALK_OWN_PENALISED, penalised);
	alk_metrics_own(out, ALK_OWN_BANS, alk_bans_count(sup->bans, now));
	alk_metrics_head(out, ALK_OWN_MISDEEDS);
	for (int i = 1; i < ALK_MISDEED_COUNT; i++) {
		snprintf(labels, sizeof(labels), "{reason=\"%s\"}",
			 alk_misdeed_str((enum alk_misdeed)i));
		alk_metrics_sample(out, ALK_OWN_MISDEEDS, labels, (double)sup->misdone[i]);
	}
}

/* ban.list, ban.add, ban.remove */

static void list_penalty(void *user, enum alk_penalty_kind kind, const char *name, uint64_t left)
{
	json_array_append_new(user, json_pack("{s:s, s:s, s:f, s:s}",
					      kind == ALK_PENALTY_ADDRESS ? "network" : "identity",
					      name, "kind", "penalty", "left_duration",
					      (double)left / 1000, "reason", ""));
}

void supervisor_ban_list(struct alk_supervisor *sup, struct alk_admin_call *call)
{
	uint64_t now = alk_loop_now(sup->loop);
	json_t *list = json_array();
	const struct alk_ban *ban;

	for (unsigned i = 0; (ban = alk_bans_nth(sup->bans, i, now)) != NULL; i++) {
		json_t *row = json_pack("{s:s, s:s}", "network", ban->text, "kind", "ban");

		if (row != NULL && ban->until != 0)
			json_object_set_new(row, "left_duration",
					    json_real((double)(ban->until - now) / 1000));
		if (row != NULL)
			json_object_set_new(row, "reason", json_string(ban->reason));
		json_array_append_new(list, row);
	}
	alk_penalty_each(sup->penalty, now, list_penalty, list);
	alk_admin_result(&call, json_pack("{s:o}", "bans", list));
}

static bool network_of(const json_t *params, const char *command, struct alk_ban *ban,
		       struct alk_admin_call **call)
{
	const char *why = alk_ban_parse(ban, json_string_value(json_object_get(params, "network")));

	if (why != NULL)
		alk_admin_error(call, ALK_ADMIN_BAD_PARAMS, "%s: network: %s", command, why);
	return why == NULL;
}

void supervisor_ban_add(struct alk_supervisor *sup, struct alk_admin_call *call,
			const json_t *params)
{
	json_int_t seconds = json_integer_value(json_object_get(params, "seconds"));
	const char *reason = json_string_value(json_object_get(params, "reason"));
	uint64_t now = alk_loop_now(sup->loop);
	struct alk_ban ban = {.until = 0};
	int rc;

	if (!network_of(params, "ban.add", &ban, &call))
		return;
	if (seconds > BAN_SECONDS_MAX) {
		alk_admin_error(&call, ALK_ADMIN_BAD_PARAMS, "ban.add: seconds: more than %lld",
				BAN_SECONDS_MAX);
		return;
	}
	if (seconds > 0)
		ban.until = now + (uint64_t)seconds * 1000;
	snprintf(ban.reason, sizeof(ban.reason), "%.127s", reason != NULL ? reason : "");
	rc = alk_bans_add(sup->bans, &ban, now);
	if (rc != 0)
		alk_admin_error(&call, ALK_ADMIN_FAILED, "ban.add: %s",
				rc == -ENOSPC ? "there are 4096 bans already" : "out of memory");
	else
		alk_admin_result(&call, json_pack("{s:s}", "banned", ban.text));
}

/* The penalty of a source goes the same way: its name is its network's. */
void supervisor_ban_remove(struct alk_supervisor *sup, struct alk_admin_call *call,
			   const json_t *params)
{
	struct alk_ban ban = {.until = 0};
	char addr[64], key[64];
	bool found;

	if (!network_of(params, "ban.remove", &ban, &call))
		return;
	found = alk_bans_remove(sup->bans, &ban.net);
	/* One address is written without its length there, and counts as its /64. */
	snprintf(addr, sizeof(addr), "%s", ban.text);
	if (ban.net.bits == 128)
		addr[strcspn(addr, "/")] = '\0';
	snprintf(key, sizeof(key), "%s", addr);
	if (ban.net.bits == 128)
		alk_limit_key(addr, key, sizeof(key));
	if (alk_penalty_remove(sup->penalty, ALK_PENALTY_ADDRESS, key)) {
		supervisor_forgive(sup, key);
		found = true;
	}
	if (found)
		alk_admin_result(&call, json_pack("{s:s}", "removed", ban.text));
	else
		alk_admin_error(&call, ALK_ADMIN_FAILED,
				"ban.remove: there is no ban and no penalty of %s", ban.text);
}
