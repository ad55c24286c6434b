/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_AGENT_H
#define ALK_AGENT_H

/* A client of ssh-agent: a question and its answer over a unix socket, on the loop. The protocol is
 * that of draft-ietf-sshm-ssh-agent: a message is its length (4 bytes, big-endian), its type and
 * what belongs to it. Each question has a connection of its own, so that an answer that comes late
 * is nobody else's.
 *
 * Whatever stands at the other end of SSH_AUTH_SOCK may be hostile or dead: lengths are bounded,
 * and there is a deadline. No libssh here. Fuzzed (tests/fuzz/fuzz_agent.c). */

#include <stddef.h>
#include <stdint.h>
#include <alknet/err.h>
#include <alknet/loop.h>

#define ALK_AGENT_MESSAGE_MAX (256u * 1024)
/* More than an answer can hold of real keys; what comes behind is not looked at. */
#define ALK_AGENT_KEYS_MAX 1024

enum alk_agent_message {
	ALK_AGENT_FAILURE = 5,
	ALK_AGENT_REQUEST_IDENTITIES = 11,
	ALK_AGENT_IDENTITIES_ANSWER = 12,
	ALK_AGENT_SIGN_REQUEST = 13,
	ALK_AGENT_SIGN_RESPONSE = 14,
};

/* Runs once, from the loop, never before the call returned. rc 0: `answer` is the message without
 * its length, at least one byte, borrowed for the call. Else -ETIMEDOUT, -ECONNREFUSED, -ENOENT,
 * -EPROTO (closed, too long) and the like; `err` names the socket. */
typedef void alk_agent_fn(void *user, int rc, const uint8_t *answer, size_t len,
			  const struct alk_err *err);
struct alk_agent_query;
/* Ask the agent at the socket `path`. Borrows the question (without its length) for the call. NULL
 * with `err` when `path` cannot be one or memory is out. */
struct alk_agent_query *alk_agent_ask(struct alk_loop *loop, const char *path,
				      const uint8_t *question, size_t len, uint64_t timeout_ms,
				      alk_agent_fn *done, void *user, struct alk_err *err);
/* Then `done` does not run. Takes and clears; a query is dead once `done` began. */
void alk_agent_cancel(struct alk_agent_query **query);

/* What an answer to REQUEST_IDENTITIES lists; borrows its bytes. */
struct alk_agent_key {
	const uint8_t *blob;
	size_t len;
};
/* Gives up to `max` keys; a key without bytes is left out. The number; -EPROTO when the answer is
 * none. */
int alk_agent_keys(const uint8_t *answer, size_t len, struct alk_agent_key *keys, size_t max);
/* The signature in an answer to SIGN_REQUEST, borrowed. 0; -EACCES the agent does not sign;
 * -EPROTO. */
int alk_agent_signature(const uint8_t *answer, size_t len, const uint8_t **signature,
			size_t *signature_len);

#endif
