/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_LOGIN_H
#define ALK_SSH_LOGIN_H

/* What a client logs in with, and the turn that does it.
 *
 * `identity` is a private key file, or a .pub file whose private half the agent (SSH_AUTH_SOCK)
 * holds; without it all of the agent's keys are offered, in its order. A certificate goes before
 * the plain key that it is of: `certificate`, else KEY-cert.pub beside the identity, else what the
 * agent has. A key file with a passphrase that the agent holds too is used through the agent, so
 * that nobody is asked.
 *
 *   begin ─▶ LISTING ─keys─▶ OFFERING ─accepted─▶ SIGNING ─signature─▶ SIGNED ─▶ logged in
 *      └──▶ FILES (private keys that were read)      └── the agent refuses: the next key
 *
 * libssh signs with an agent key in one blocking call. So that it never blocks, its agent is a
 * socketpair of ours (ssh_set_agent_socket) that holds the answer before it asks: the list of keys
 * and, when the server took one, a refusal to sign. What it asked is then put to the real agent on
 * the loop, and offered again with the signature in place. That costs one round trip more, and
 * libssh 0.10 never frees the list of the first time. So what the server took is remembered and
 * offered first and alone after a reconnect: some 300 bytes. */

#include "conf.h"
#include "ssh_session.h"

struct alk_login;

/* Signatures that we make: RSA with SHA-2 alone. For SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES. */
#define ALK_LOGIN_ALGORITHMS                                                                       \
	"ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,"               \
	"ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp521-cert-v01@openssh.com,"       \
	"rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com,ssh-ed25519,"         \
	"ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256"

/* Borrows loop, values and conf for life. Reads keys; may ask for a passphrase on the terminal and
 * wait for the agent (5 s), so not while the loop runs. `user` is for sentences. */
struct alk_login *alk_login_new(struct alk_loop *loop, const struct alk_conf *conf,
				const char *server, const char *user, struct alk_err *err);
void alk_login_free(struct alk_login **login);
/* A session whose host key is good: log in. Borrows `s` until alk_login_end(). -errno with
 * `err`. */
int alk_login_begin(struct alk_login *login, struct alk_ssh *s, struct alk_err *err);
/* From the session's step. 1 logged in; 0 not yet; -EACCES nobody was let in, and other -errno,
 * with a sentence in `err`; -EPROTO without one when the session broke. */
int alk_login_step(struct alk_login *login, struct alk_err *err);
/* The session ended or is logged in. */
void alk_login_end(struct alk_login *login);
/* What to say behind "the server closed the connection during authentication"; "" when there is
 * nothing. */
const char *alk_login_hint(const struct alk_login *login);

#endif
