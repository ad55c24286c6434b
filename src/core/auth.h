/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_AUTH_H
#define ALK_AUTH_H

/* What a worker knows of who may come in: the authorized keys, penalties, and the rules that keep an
 * attacker from learning from answers. The decision itself is made in ssh_server.c (policy first, then
 * this) once a key was proved. No libssh here. */

#include "conf.h"
#include "keys.h"

struct alk_auth;

struct alk_auth *alk_auth_new(const struct alk_conf *conf, struct alk_err *err);
void alk_auth_free(struct alk_auth **auth);
/* Is this public key blob authorized? Same time for each answer. */
bool alk_auth_key_known(const struct alk_auth *auth, const uint8_t *blob, size_t len);
size_t alk_auth_key_count(const struct alk_auth *auth);
/* A user name that may be tried: 1 to 64 bytes of UTF-8 without control characters. */
bool alk_auth_user_valid(const char *user);
/* Milliseconds from the request until a refusal is told: at least 5, and a little more by a secret
 * function of the user's name, so that repeating a question tells nothing about the time it took. */
uint64_t alk_auth_delay(const struct alk_auth *auth, const char *user);
/* Refuse an identity or an address until `until` (loop time). At most 1024 are kept, oldest out. */
void alk_auth_penalise(struct alk_auth *auth, const char *who, uint64_t until);
bool alk_auth_penalised(const struct alk_auth *auth, const char *who, uint64_t now);

#endif
