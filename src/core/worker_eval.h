/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_WORKER_EVAL_H
#define ALK_WORKER_EVAL_H

/* policy.eval in a worker: the policy that runs is asked, as policy_eval.h does it, and the answer
 * goes to the supervisor when it is there. At most 8 questions are under way. */

#include <jansson.h>
#include "policy.h"

struct alk_worker_evals;

/* Gives a "reply" message. */
typedef void alk_worker_eval_fn(void *user, json_t *reply);

/* Ask; `params` as the command table has them, borrowed. `done` runs once, also at once when
 * something is wrong. *evals is made when it is NULL. */
void alk_worker_eval(struct alk_worker_evals **evals, struct alk_policy *policy, bool gateway_ports,
		     json_int_t id, const json_t *params, alk_worker_eval_fn *done, void *user);
/* Nothing is told any more. Before the policy is freed. */
/* The reply to a request that cannot be done. */
json_t *alk_worker_refusal(json_int_t id, const char *why);
void alk_worker_evals_free(struct alk_worker_evals **evals);

#endif
