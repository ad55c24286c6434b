/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "status.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is asked for a snapshot, one after the other. A command that fails (no bus is loaded) leaves
 * its part out. */
static const char *const commands[] = {"status", "session.list", "bus.topics", "metrics"};
enum {
	STATUS,
	SESSIONS,
	TOPICS,
	METRICS,
	COMMANDS
};

/* Counters whose rate is shown, as `metrics` calls them. */
static const struct {
	const char *metric, *name;
} rates[] = {
	{"alknet_links_total", "links"},
	{"alknet_channels_total", "channels"},
	{"alknet_channel_receive_bytes_total", "receive_bytes"},
	{"alknet_channel_transmit_bytes_total", "transmit_bytes"},
	{"alknet_auth_rejected_total", "auth_rejected"},
	{"alknet_bus_events_total", "bus_events"},
};
#define RATES (sizeof(rates) / sizeof(*rates))

struct counted {
	bool known;
	double value[RATES];
};

struct asker {
	struct asker *next;
	uint64_t worker;
};

struct status_keeper {
	uint32_t magic;
	struct alk_half *half;
	struct alk_loop *loop;
	struct asker *askers; /* each worker at most once */
	struct alk_half_call *call;
	unsigned asking; /* the command under way; COMMANDS: none is */
	json_t *part[COMMANDS];
	char *snapshot;
	uint64_t made;
	struct counted before;
	json_t *rates; /* of the last two snapshots that were apart enough */
};

int status_keeper_new(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct status_keeper *keeper = calloc(1, sizeof(*keeper));

	if (keeper == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	keeper->magic = STATUS_KEEPER_MAGIC;
	keeper->half = env->half;
	keeper->loop = env->loop;
	keeper->asking = COMMANDS;
	*state = keeper;
	return 0;
}

static void parts_clear(struct status_keeper *keeper)
{
	for (unsigned i = 0; i < COMMANDS; i++) {
		json_decref(keeper->part[i]);
		keeper->part[i] = NULL;
	}
}

static struct asker *asker_take(struct status_keeper *keeper)
{
	struct asker *asker = keeper->askers;

	if (asker != NULL)
		keeper->askers = asker->next;
	return asker;
}

void status_keeper_free(void **state)
{
	struct status_keeper *keeper = *state;
	struct asker *asker;

	*state = NULL;
	alk_half_call_cancel(&keeper->call);
	while ((asker = asker_take(keeper)) != NULL)
		free(asker);
	parts_clear(keeper);
	json_decref(keeper->rates);
	free(keeper->snapshot);
	keeper->magic = 0;
	free(keeper);
}

/* The value of a series without labels in the Prometheus text; false when it is not there. */
static bool metric_value(const char *text, const char *name, double *value)
{
	size_t n = strlen(name);

	for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) == 0 && line[n] == ' ') {
			*value = strtod(line + n + 1, NULL);
			return true;
		}
	}
	return false;
}

/* Counters of a plugin that is not loaded have no rate; one that went back (its worker's half began
 * anew) is 0. */
static void rates_make(struct status_keeper *keeper, const char *text, double seconds)
{
	struct counted now = {.known = true};
	json_t *made = json_object();

	for (size_t i = 0; i < RATES; i++) {
		double before = keeper->before.value[i], rate = 0;

		if (!metric_value(text, rates[i].metric, &now.value[i]))
			continue;
		if (keeper->before.known && now.value[i] > before && seconds > 0)
			rate = (now.value[i] - before) / seconds;
		json_object_set_new(made, rates[i].name, json_real(rate));
	}
	keeper->before = now;
	json_decref(keeper->rates);
	keeper->rates = made;
}

static void rows_cut(json_t *rows)
{
	while (json_array_size(rows) > STATUS_ROWS)
		json_array_remove(rows, json_array_size(rows) - 1);
}

static char *snapshot_make(struct status_keeper *keeper)
{
	json_t *topics = keeper->part[TOPICS];
	json_t *whole = json_object();
	char *text;

	rows_cut(json_object_get(keeper->part[SESSIONS], "sessions"));
	rows_cut(json_object_get(topics, "patterns"));
	rows_cut(json_object_get(topics, "retained"));
	json_object_set(whole, "server", keeper->part[STATUS]);
	json_object_set(whole, "sessions", json_object_get(keeper->part[SESSIONS], "sessions"));
	json_object_set(whole, "bus", topics);
	json_object_set(whole, "rates", keeper->rates);
	text = json_dumps(whole, JSON_COMPACT);
	json_decref(whole);
	return text;
}

static void answer_all(struct status_keeper *keeper)
{
	struct asker *asker;

	while ((asker = asker_take(keeper)) != NULL) {
		/* What fails here is a worker that is gone, or is replaced because it does not
		 * read. */
		alk_half_send(keeper->half, asker->worker, keeper->snapshot,
			      strlen(keeper->snapshot));
		free(asker);
	}
}

static void snapshot_end(struct status_keeper *keeper)
{
	uint64_t now = alk_loop_now(keeper->loop);
	const char *text = json_string_value(json_object_get(keeper->part[METRICS], "text"));

	if (text != NULL)
		rates_make(keeper, text, (double)(now - keeper->made) / 1000);
	free(keeper->snapshot);
	keeper->snapshot = snapshot_make(keeper);
	keeper->made = now;
	parts_clear(keeper);
	if (keeper->snapshot == NULL)
		keeper->snapshot = strdup("{}");
	if (keeper->snapshot != NULL)
		answer_all(keeper);
}

static void on_answer(void *user, const char *result, const char *error);

static void ask_next(struct status_keeper *keeper)
{
	while (keeper->asking < COMMANDS) {
		if (alk_half_call(keeper->half, commands[keeper->asking], "{}", on_answer, keeper,
				  &keeper->call) == 0)
			return;
		keeper->asking++;
	}
	snapshot_end(keeper);
}

static void on_answer(void *user, const char *result, const char *error)
{
	struct status_keeper *keeper = user;

	(void)error;
	assert(keeper->magic == STATUS_KEEPER_MAGIC);
	if (result != NULL)
		keeper->part[keeper->asking] = json_loads(result, JSON_DECODE_ANY, NULL);
	keeper->asking++;
	ask_next(keeper);
}

/* Whatever a worker says, it wants a snapshot. */
void status_keeper_message(void *state, uint64_t worker)
{
	struct status_keeper *keeper = state;
	struct asker *asker = keeper->askers;

	while (asker != NULL && asker->worker != worker)
		asker = asker->next;
	if (asker == NULL) {
		asker = calloc(1, sizeof(*asker));
		if (asker == NULL)
			return; /* it asks again in a second */
		*asker = (struct asker){.next = keeper->askers, .worker = worker};
		keeper->askers = asker;
	}
	if (keeper->asking < COMMANDS)
		return;
	if (keeper->snapshot != NULL &&
	    alk_loop_now(keeper->loop) - keeper->made < STATUS_FRESH_MS) {
		answer_all(keeper);
		return;
	}
	keeper->asking = 0;
	ask_next(keeper);
}

void status_keeper_down(void *state, uint64_t worker)
{
	struct status_keeper *keeper = state;

	for (struct asker **at = &keeper->askers; *at != NULL; at = &(*at)->next) {
		struct asker *gone = *at;

		if (gone->worker == worker) {
			*at = gone->next;
			free(gone);
			return;
		}
	}
}
