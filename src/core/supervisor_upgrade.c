/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "supervisor_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "inherited.h"
#include "notify.h"
#include "upgrade.h"

/* Another program takes over: it is started beside this one on the same sockets. When it serves, this one takes no more
 * links, gives up its admin socket and drains; until then nothing has changed.
 *
 *   ASKED ──the secret service is locked, or `force`──▶ STARTED ──it serves──▶ LEAVING ──no link waits for its──▶ drain
 *     └────────────────── refused ──┴── it does not ──▶ nothing                          PROXY header
 */

#define UPGRADE_MAGIC 0x64677075u /* "upgd" */

struct supervisor_upgrade {
	uint32_t magic;
	struct alk_supervisor *sup;
	struct alk_admin_call *call; /* NULL once it is answered */
	struct alk_upgrade *process; /* NULL: not started yet, or gone */
	struct alk_task end;
	bool leaving, asking;
};

static struct supervisor_upgrade *upgrade_of(void *user)
{
	struct supervisor_upgrade *up = user;

	assert(up->magic == UPGRADE_MAGIC);
	return up;
}

static void upgrade_end(struct supervisor_upgrade *up)
{
	alk_task_queue(up->sup->loop, &up->end);
}

static void on_end(void *user)
{
	struct supervisor_upgrade *up = upgrade_of(user);

	alk_upgrade_free(&up->process);
	if (!up->leaving && !up->asking) {
		up->sup->upgrade = NULL;
		up->magic = 0;
		free(up);
	}
}

static void upgrade_fail(struct supervisor_upgrade *up, const char *why)
{
	alk_log(ALK_LOG_ERROR, "upgrade failed", ALK_STR("reason", why));
	if (up->call != NULL)
		alk_admin_error(&up->call, ALK_ADMIN_FAILED, "%s", why);
	upgrade_end(up);
}

/* The listeners of the core are what can be handed over; those of a library that has its own
 * cannot. */

static bool kind_is_open(const struct alk_supervisor *sup, const char *kind)
{
	if (strcmp(kind, "unix") == 0 || strcmp(kind, "http") == 0)
		return true;
	for (unsigned i = 0; i < sup->listeners; i++)
		if (sup->listener[i].listener != NULL &&
		    strcmp(sup->listener[i].transport, kind) == 0)
			return true;
	return false;
}

static size_t sockets_collect(const struct alk_supervisor *sup, int *fds, const char **names)
{
	const char *kind, *name;
	size_t n = 0;
	int fd;

	for (size_t i = 0; (fd = alk_inherited_offered(i, &kind, &name)) >= 0; i++) {
		if (!kind_is_open(sup, kind))
			continue;
		if (n < ALK_INHERITED_MAX) {
			fds[n] = fd;
			names[n] = name;
		}
		n++;
	}
	return n;
}

static int listeners_check(const struct alk_supervisor *sup, struct alk_err *err)
{
	const char *kind, *name;

	for (unsigned i = 0; i < sup->listeners; i++) {
		const struct supervisor_listener *listener = &sup->listener[i];
		bool found = listener->listener == NULL;

		for (size_t k = 0; !found && alk_inherited_offered(k, &kind, &name) >= 0; k++)
			found = strcmp(kind, listener->transport) == 0;
		if (!found)
			return alk_err_set(
				err, -EOPNOTSUPP,
				"upgrade: the transport %s cannot hand over its listener %s: restart the server instead",
				listener->transport, listener->address);
	}
	return 0;
}

/* It serves. */

static void upgrade_leave(struct supervisor_upgrade *up, pid_t pid)
{
	struct alk_supervisor *sup = up->sup;

	up->leaving = true;
	alk_notify("MAINPID=%ld\nREADY=1\nSTATUS=upgraded: %u links go on in process %ld",
		   (long)pid, alk_limit_links(sup->limit), (long)getpid());
	alk_notify_end();
	supervisor_unlisten(sup);
	supervisor_local_leave(sup);
	alk_metrics_http_pause(sup->metrics_http, true);
	if (sup->admin != NULL)
		alk_admin_leave(sup->admin);
	supervisor_upgrade_tick(sup);
}

void supervisor_upgrade_tick(struct alk_supervisor *sup)
{
	if (sup->upgrade != NULL && sup->upgrade->leaving && sup->proxied == NULL &&
	    alk_turns_count(sup->turns) == 0)
		supervisor_drain(sup);
}

static void on_answer(void *user, pid_t pid, const char *version, const char *why)
{
	struct supervisor_upgrade *up = upgrade_of(user);
	struct alk_supervisor *sup = up->sup;

	if (version == NULL) {
		upgrade_fail(up, why);
		return;
	}
	alk_log(ALK_LOG_INFO, "upgraded", ALK_INT("pid", pid), ALK_STR("version", version),
		ALK_INT("links_leaving", alk_limit_links(sup->limit)));
	supervisor_event(sup, json_pack("{s:s, s:i, s:s}", "event", "upgrade", "pid", (int)pid,
					"version", version));
	if (up->call != NULL)
		alk_admin_result(&up->call,
				 json_pack("{s:i, s:s, s:i}", "pid", (int)pid, "version", version,
					   "links_leaving", (int)alk_limit_links(sup->limit)));
	upgrade_end(up);
	upgrade_leave(up, pid);
}

static void upgrade_start(struct supervisor_upgrade *up)
{
	struct alk_supervisor *sup = up->sup;
	const char *names[ALK_INHERITED_MAX];
	int fds[ALK_INHERITED_MAX];
	struct alk_err err = {""};
	size_t n;

	if (alk_upgrade_check(&err) < 0 || listeners_check(sup, &err) < 0) {
		upgrade_fail(up, err.text);
		return;
	}
	n = sockets_collect(sup, fds, names);
	up->process = alk_upgrade_start(sup->loop, fds, names, n, on_answer, up, &err);
	if (up->process == NULL)
		upgrade_fail(up, err.text);
	else
		alk_log(ALK_LOG_INFO, "upgrading", ALK_INT("sockets", (int64_t)n));
}

/* The seed is in this process alone. An error: there is no such service. */
static void on_secret(void *user, json_t *result, const char *error)
{
	struct supervisor_upgrade *up = upgrade_of(user);

	(void)error;
	up->asking = false;
	if (up->call == NULL)
		upgrade_end(up); /* the server leaves */
	else if (up->sup->state != SUPERVISOR_RUNNING)
		upgrade_fail(up, "the server leaves");
	else if (json_is_true(json_object_get(result, "unlocked")))
		upgrade_fail(
			up,
			"upgrade: the secret service is unlocked and would have to be unlocked again; --force does it all the same");
	else
		upgrade_start(up);
}

void supervisor_upgrade(struct alk_supervisor *sup, struct alk_admin_call *call, bool force)
{
	struct supervisor_upgrade *up;

	if (sup->state != SUPERVISOR_RUNNING || sup->upgrade != NULL) {
		alk_admin_error(&call, ALK_ADMIN_FAILED, "upgrade: %s",
				sup->upgrade != NULL ? "one is under way"
						     : supervisor_state_str(sup->state));
		return;
	}
	if (supervisor_reload_busy(sup) || supervisor_plugin_busy(sup)) {
		alk_admin_error(&call, ALK_ADMIN_FAILED,
				"upgrade: a reload, or a change of plugins, is under way");
		return;
	}
	up = calloc(1, sizeof(*up));
	if (up == NULL) {
		alk_admin_error(&call, ALK_ADMIN_FAILED, "out of memory");
		return;
	}
	*up = (struct supervisor_upgrade){.magic = UPGRADE_MAGIC, .sup = sup, .call = call};
	up->end = (struct alk_task){.fn = on_end, .user = up};
	sup->upgrade = up;
	if (force) {
		upgrade_start(up);
		return;
	}
	up->asking = true;
	if (alk_supervisor_request(sup, "secret.status", NULL, on_secret, up) < 0) {
		up->asking = false;
		upgrade_fail(up, "out of memory");
	}
}

void supervisor_upgrade_cancel(struct alk_supervisor *sup)
{
	if (sup->upgrade != NULL && !sup->upgrade->leaving && sup->upgrade->call != NULL)
		upgrade_fail(sup->upgrade, "the server leaves");
}

/* It waits for the answer of a half: that may come until all halves are gone. */
void supervisor_upgrade_deinit(struct alk_supervisor *sup)
{
	struct supervisor_upgrade *up = sup->upgrade;

	sup->upgrade = NULL;
	if (up == NULL)
		return;
	alk_task_cancel(sup->loop, &up->end);
	alk_upgrade_free(&up->process);
	if (up->call != NULL)
		alk_admin_error(&up->call, ALK_ADMIN_FAILED, "the server stops");
	up->magic = 0;
	free(up);
}

/* In the new process */

void supervisor_upgrade_ready(struct alk_supervisor *sup)
{
	if (!alk_upgrade_pending())
		return;
	alk_upgrade_ready();
	sup->told_sessions = UINT64_MAX; /* the other one spoke last: soon it is told again */
	if (sup->admin != NULL)
		alk_admin_pause(sup->admin, false);
	alk_metrics_http_pause(sup->metrics_http, false);
}
