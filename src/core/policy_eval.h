/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_POLICY_EVAL_H
#define ALK_POLICY_EVAL_H

/* What would the policy say? A connection made up from texts is put through the questions in their
 * order, until one is denied: `alknet policy eval`, and policy.eval of the admin socket. Nothing is
 * connected to, but the script runs for real: it resolves, counts and logs. */

#include <jansson.h>
#include "policy.h"

struct alk_policy_eval;

/* Gives `result`: {"allowed": bool, "answers": [{"question", "word", "failed", "where",
 * "elapsed_us"}, ...]}, where an answer also has, when there is one: "reason"; "identity" {"id",
 * "scopes", "resources"}; "forward" or "listen" {"host", "port", "path", "via", "bind",
 * "proxy_protocol"}; "service". NULL when out of memory. */
typedef void alk_policy_eval_fn(void *user, json_t *result);

/* `params` is an object, copied; each key may be left out, no other is known:
 *
 *   user, transport ("tcp"), sni           texts
 *   from                                   "ADDRESS" or "ADDRESS:PORT" of the peer
 *   key                                    a line of a .pub file, a certificate too
 *   key_fingerprint, key_type              in place of `key`
 *   id, scopes [...]                       who it is, in place of what on_auth says
 *   to                                     "HOST:PORT" or "/unix/path"
 *   listen                                 "[HOST]:PORT" or "/unix/path", for on_listen
 *   gateway_ports                          the option's value; without it false, and what is not loopback is
 *                                          asked about as localhost, as the server does
 *   questions ["on_open", ...]             without it: on_link; on_auth when there is a key and no `id`; on_open
 *                                          when there is `to`, on_listen when there is `listen`
 *
 * Without on_auth and `id` the identity is the key's fingerprint, as authorized keys have it, or
 * the user. Borrows `policy` (which has a loop) until `done` ran, which happens once, from the
 * loop, later. NULL with `err` (-EINVAL: names the key that is wrong). */
struct alk_policy_eval *alk_policy_eval_start(struct alk_policy *policy, const json_t *params,
					      alk_policy_eval_fn *done, void *user,
					      struct alk_err *err);
/* Then `done` does not run. Before the policy is freed. */
void alk_policy_eval_cancel(struct alk_policy_eval **eval);

#endif
