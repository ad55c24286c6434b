/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The server's metrics, and whether it is ready: for the admin socket and for metrics_listen. */
#include "supervisor_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "upgrade.h"

/* The dead's counters and what stands on the living's boards. */
void supervisor_sum_metrics(const struct alk_supervisor *sup, struct alk_metrics *sum)
{
	supervisor_look(sup);
	*sum = sup->dead;
	/* What this process counts: lines that its log dropped, and all of workers that are in
	 * it. */
	alk_metrics_add(sum, alk_board_self, true);
	for (unsigned i = 0; i < sup->slots; i++)
		if (alk_worker_proc_state(sup->slot[i].worker) != ALK_WORKER_DEAD)
			alk_metrics_add(sum, alk_worker_proc_board(sup->slot[i].worker), true);
}

uint64_t supervisor_authenticated(const struct alk_supervisor *sup)
{
	uint64_t n = alk_board_get(alk_board_self, ALK_M_SESSIONS_AUTHENTICATED);

	for (unsigned i = 0; i < sup->slots; i++) {
		const struct alk_worker_proc *worker = sup->slot[i].worker;

		if (alk_worker_proc_state(worker) != ALK_WORKER_DEAD)
			n += alk_board_get(alk_worker_proc_board(worker),
					   ALK_M_SESSIONS_AUTHENTICATED);
	}
	return n;
}

static void write_refused(struct alk_metrics_text *out, const struct alk_supervisor *sup)
{
	char labels[64];

	alk_metrics_head(out, ALK_OWN_REFUSED);
	for (int why = 1; why < ALK_REFUSAL_COUNT; why++) {
		snprintf(labels, sizeof(labels), "{reason=\"%s\"}",
			 alk_refusal_str((enum alk_refusal)why));
		alk_metrics_sample(out, ALK_OWN_REFUSED, labels, (double)sup->refused[why].total);
	}
}

static unsigned ready_workers(const struct alk_supervisor *sup)
{
	unsigned ready = 0;

	for (unsigned i = 0; i < sup->slots; i++)
		ready += sup->slot[i].role == SLOT_SERVES &&
			 alk_worker_proc_state(sup->slot[i].worker) == ALK_WORKER_READY;
	return ready;
}

static void write_own(struct alk_metrics_text *out, const struct alk_supervisor *sup)
{
	struct supervisor_reload_counts reloads = supervisor_reload_counts(sup);

	alk_metrics_build(out);
	alk_metrics_own(out, ALK_OWN_UPTIME,
			(double)(alk_loop_now(sup->loop) - sup->started) / 1000);
	alk_metrics_own(out, ALK_OWN_WORKERS, ready_workers(sup));
	alk_metrics_own(out, ALK_OWN_WORKER_RESTARTS, (double)sup->restarts);
	alk_metrics_own(out, ALK_OWN_WORKER_HANGS, (double)sup->hung);
	alk_metrics_own(out, ALK_OWN_GENERATIONS, sup->generations);
	alk_metrics_own(out, ALK_OWN_RELOADS, (double)reloads.done);
	alk_metrics_own(out, ALK_OWN_RELOAD_FAILURES, (double)reloads.failed);
	alk_metrics_own(out, ALK_OWN_OPEN_LINKS, alk_limit_links(sup->limit));
	alk_metrics_own(out, ALK_OWN_STARTUPS, alk_limit_startups(sup->limit));
	alk_metrics_own(out, ALK_OWN_TURNS, (double)alk_turns_count(sup->turns));
	alk_metrics_own(out, ALK_OWN_DRAINING, sup->state >= SUPERVISOR_DRAINING);
	write_refused(out, sup);
	supervisor_abuse_metrics(sup, out);
}

void supervisor_metrics(const struct alk_supervisor *sup, struct alk_metrics_text *out)
{
	struct alk_metrics sum;

	supervisor_sum_metrics(sup, &sum);
	alk_metrics_write(out, &sum);
	write_own(out, sup);
	supervisor_half_metrics(sup, out);
}

const char *supervisor_unready(const struct alk_supervisor *sup)
{
	if (sup->state != SUPERVISOR_RUNNING)
		return supervisor_state_str(sup->state);
	return ready_workers(sup) > 0 ? NULL : "no worker is ready";
}

static void on_metrics(void *user, struct alk_metrics_text *out)
{
	supervisor_metrics(supervisor_of(user), out);
}

static const char *on_unready(void *user)
{
	return supervisor_unready(supervisor_of(user));
}

int supervisor_metrics_open(struct alk_supervisor *sup, struct alk_err *err)
{
	static const struct alk_metrics_http_ops ops = {.metrics = on_metrics,
							.unready = on_unready};

	int rc = alk_metrics_http_open(&sup->metrics_http, sup->loop,
				       alk_options_str(sup->values, "metrics_listen"), &ops, sup,
				       err);

	/* The program before this one still answers. */
	if (rc == 0 && alk_upgrade_pending())
		alk_metrics_http_pause(sup->metrics_http, true);
	return rc;
}
