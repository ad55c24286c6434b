/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Which links are taken, and when. What more come than may begin wait here in turns, so that
 * accepting never waits: in the kernel's queue everybody would stand behind a flood. */
#include "supervisor_private.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>

#define WAIT_MIN 64
#define WAIT_MAX 1024

void supervisor_refuse(struct alk_supervisor *sup, enum alk_refusal why, const char *addr)
{
	struct supervisor_refused *refused = &sup->refused[why];

	refused->total++;
	refused->unlogged++;
	snprintf(refused->addr, sizeof(refused->addr), "%s", addr);
	supervisor_log_refused(sup);
}

void supervisor_log_refused(struct alk_supervisor *sup)
{
	uint64_t now = alk_loop_now(sup->loop);

	for (int why = 1; why < ALK_REFUSAL_COUNT; why++) {
		struct supervisor_refused *refused = &sup->refused[why];

		if (refused->unlogged == 0 ||
		    (refused->logged_at != 0 && now - refused->logged_at < 1000))
			continue;
		alk_log(ALK_LOG_WARN, "connection refused", ALK_STR("remote_addr", refused->addr),
			ALK_STR("reason", alk_refusal_str((enum alk_refusal)why)),
			ALK_INT("count", (int64_t)refused->unlogged));
		refused->unlogged = 0;
		refused->logged_at = now;
	}
}

static bool takes_links(const struct supervisor_slot *slot)
{
	return slot->role == SLOT_SERVES && alk_worker_proc_state(slot->worker) == ALK_WORKER_READY;
}

int supervisor_serving_slot(const struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (takes_links(&sup->slot[i]))
			return (int)i;
	return (int)sup->slots;
}

bool supervisor_is_served(const struct alk_supervisor *sup)
{
	return supervisor_serving_slot(sup) < (int)sup->slots;
}

/* The ready worker with the fewest links; equals take turns; one that is stuck right now comes
 * last. */
struct supervisor_slot *supervisor_pick_worker(struct alk_supervisor *sup)
{
	struct supervisor_slot *best = NULL;
	bool best_stuck = false;

	for (unsigned i = 0; i < sup->slots; i++) {
		struct supervisor_slot *slot = &sup->slot[(sup->next_slot + i) % sup->slots];
		bool stuck;

		if (!takes_links(slot))
			continue;
		stuck = alk_worker_proc_busy_ms(slot->worker) >= 1000;
		if (best == NULL || (best_stuck && !stuck) ||
		    (best_stuck == stuck && slot->links < best->links)) {
			best = slot;
			best_stuck = stuck;
		}
	}
	if (best != NULL)
		sup->next_slot = (unsigned)(best - sup->slot) + 1;
	return best;
}

static uint64_t link_refuse(struct alk_supervisor *sup, enum alk_refusal why, struct alk_link *link)
{
	uint64_t pause = alk_limit_refused(sup->limit, alk_loop_now(sup->loop));

	supervisor_refuse(sup, why, link->remote_addr);
	alk_link_close(link);
	if (pause > 0 && !alk_timer_active(sup->pause)) {
		alk_timer_start(sup->pause, pause);
		supervisor_accept(sup);
	}
	return 0;
}

static enum alk_refusal admit(struct alk_supervisor *sup, const char *addr)
{
	enum alk_refusal why = supervisor_abuse_judge(sup, addr);

	return why != ALK_REFUSAL_NONE ? why : alk_limit_admit(sup->limit, addr);
}

void supervisor_look(const struct alk_supervisor *sup)
{
	for (unsigned i = 0; i < sup->slots; i++)
		if (sup->slot[i].worker != NULL)
			alk_worker_proc_look(sup->slot[i].worker);
}

/* Judged, counted and handed to a worker, with its number if it has one. Takes link->fd; gives the
 * number, 0: refused. */
static uint64_t link_begin(struct alk_supervisor *sup, uint64_t number, struct alk_link *link)
{
	struct supervisor_slot *slot = supervisor_pick_worker(sup);
	enum alk_refusal why = slot != NULL ? admit(sup, link->remote_addr) : ALK_REFUSAL_WORKER;

	if (why != ALK_REFUSAL_NONE)
		return link_refuse(sup, why, link);
	if (number == 0)
		number = ++sup->last_link;
	if (alk_linktab_add(sup->links, number, (unsigned)(slot - sup->slot), link->remote_addr) ==
	    NULL) {
		alk_limit_end(sup->limit, link->remote_addr, false);
		return link_refuse(sup, ALK_REFUSAL_WORKER, link);
	}
	slot->links++;
	alk_limit_begin(sup->limit, alk_loop_now(sup->loop));
	if (alk_worker_proc_send_link(slot->worker, number, link) != 0)
		supervisor_release_link(sup, number);
	alk_link_close(link);
	return number;
}

/* Two seconds' worth, and not too many of our descriptors. */
static size_t wait_max(const struct alk_supervisor *sup)
{
	size_t max = (size_t)sup->limit_conf.handshakes * 2;
	struct rlimit files;

	max = max < WAIT_MIN ? WAIT_MIN : max > WAIT_MAX ? WAIT_MAX : max;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / 4 < max)
		max = (size_t)files.rlim_cur / 4;
	return max;
}

/* Where a peer has as many names as it likes, and not an address, all have one queue. */
static void source_of(const struct alk_link *link, char *source, size_t size)
{
	struct in6_addr in6;
	bool v4;

	if (alk_cidr_address(link->remote_addr, &in6, &v4))
		alk_limit_key(link->remote_addr, source, size);
	else
		snprintf(source, size, "%s", link->transport);
}

/* Takes link->fd; gives the number that it will have, 0: refused. */
static uint64_t link_wait(struct alk_supervisor *sup, struct alk_link *link)
{
	enum alk_refusal why = supervisor_abuse_judge(sup, link->remote_addr);
	uint64_t number = sup->last_link + 1;
	char source[64];

	source_of(link, source, sizeof(source));
	if (why == ALK_REFUSAL_NONE)
		why = alk_limit_foresee(sup->limit, link->remote_addr,
					alk_turns_of(sup->turns, source));
	if (why == ALK_REFUSAL_NONE && alk_turns_add(sup->turns, source, number, link) != 0)
		why = ALK_REFUSAL_HANDSHAKES;
	if (why != ALK_REFUSAL_NONE)
		return link_refuse(sup, why, link);
	sup->last_link = number;
	if (alk_turns_count(sup->turns) > wait_max(sup)) {
		struct alk_link out;

		alk_turns_push_out(sup->turns, &out);
		link_refuse(sup, ALK_REFUSAL_HANDSHAKES, &out);
	}
	if (!alk_timer_active(sup->turn))
		supervisor_take_turns(sup);
	return number;
}

/* A peer that closed while it waited costs no handshake. */
static bool has_hung_up(const struct alk_link *link)
{
	struct pollfd pollfd = {.fd = link->fd, .events = POLLRDHUP};

	return poll(&pollfd, 1, 0) > 0;
}

void supervisor_take_turns(struct alk_supervisor *sup)
{
	struct alk_link link;
	uint64_t wait = 0, number;

	while (supervisor_is_served(sup) &&
	       (wait = alk_limit_wait(sup->limit, alk_loop_now(sup->loop))) == 0 &&
	       (number = alk_turns_take(sup->turns, &link)) != 0) {
		if (has_hung_up(&link))
			link_refuse(sup, ALK_REFUSAL_HANDSHAKES, &link);
		else
			link_begin(sup, number, &link);
	}
	if (wait > 0 && alk_turns_count(sup->turns) > 0)
		alk_timer_start(sup->turn, wait);
}

void supervisor_refuse_turns(struct alk_supervisor *sup)
{
	struct alk_link link;

	alk_timer_stop(sup->turn);
	while (alk_turns_take(sup->turns, &link) != 0)
		link_refuse(sup, ALK_REFUSAL_WORKER, &link);
}

uint64_t supervisor_take_link(struct alk_supervisor *sup, struct alk_link *link)
{
	supervisor_look(sup);
	if (sup->state == SUPERVISOR_RUNNING && !alk_options_has(sup->values, "key"))
		return link_refuse(sup, ALK_REFUSAL_KEY, link);
	if (sup->state != SUPERVISOR_RUNNING || !supervisor_is_served(sup))
		return link_refuse(sup, ALK_REFUSAL_WORKER, link);
	if (alk_turns_count(sup->turns) == 0 &&
	    alk_limit_wait(sup->limit, alk_loop_now(sup->loop)) == 0)
		return link_begin(sup, 0, link);
	return link_wait(sup, link);
}
