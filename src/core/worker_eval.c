/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "worker_eval.h"

#include <stdlib.h>
#include <string.h>

#include "policy_eval.h"
#include "json_text.h"

#define EVALS_MAX 8

struct worker_eval {
	struct alk_policy_eval *eval; /* NULL: the place is free */
	json_int_t id;
	alk_worker_eval_fn *done;
	void *user;
};

struct alk_worker_evals {
	struct worker_eval eval[EVALS_MAX];
};

json_t *alk_worker_refusal(json_int_t id, const char *why)
{
	return json_pack("{s:s, s:I, s:{s:i, s:o}}", "op", "reply", "id", id, "error", "code",
			 -32000, "message", alk_json_text(why));
}

static void on_result(void *user, json_t *result)
{
	struct worker_eval *e = user;

	e->eval = NULL;
	e->done(e->user, result != NULL ? json_pack("{s:s, s:I, s:o}", "op", "reply", "id", e->id,
						    "result", result)
					: alk_worker_refusal(e->id, "out of memory"));
}

/* One question by its name is a list of one. */
static json_t *params_of(const json_t *params)
{
	json_t *copy = json_copy((json_t *)params), *question = json_object_get(copy, "question");

	if (question != NULL) {
		json_object_set_new(copy, "questions", json_pack("[O]", question));
		json_object_del(copy, "question");
	}
	return copy;
}

static struct worker_eval *place_find(struct alk_worker_evals **evals)
{
	if (*evals == NULL)
		*evals = calloc(1, sizeof(**evals));
	for (size_t i = 0; *evals != NULL && i < EVALS_MAX; i++)
		if ((*evals)->eval[i].eval == NULL)
			return &(*evals)->eval[i];
	return NULL;
}

void alk_worker_eval(struct alk_worker_evals **evals, struct alk_policy *policy, bool gateway_ports,
		     json_int_t id, const json_t *params, alk_worker_eval_fn *done, void *user)
{
	struct worker_eval *e = place_find(evals);
	struct alk_err err = {"there are too many questions under way"};
	json_t *given;

	if (e != NULL) {
		*e = (struct worker_eval){.id = id, .done = done, .user = user};
		given = params_of(params);
		json_object_set_new(given, "gateway_ports", json_boolean(gateway_ports));
		e->eval = alk_policy_eval_start(policy, given, on_result, e, &err);
		json_decref(given);
	}
	if (e == NULL || e->eval == NULL)
		done(user, alk_worker_refusal(id, err.text));
}

void alk_worker_evals_free(struct alk_worker_evals **evals)
{
	for (size_t i = 0; *evals != NULL && i < EVALS_MAX; i++)
		if ((*evals)->eval[i].eval != NULL)
			alk_policy_eval_cancel(&(*evals)->eval[i].eval);
	free(*evals);
	*evals = NULL;
}
