/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SSH_LOGIN_PRIVATE_H
#define ALK_SSH_LOGIN_PRIVATE_H

/* ssh_login.c reads what there is and drives; ssh_login_agent.c is the half that speaks with the
 * agent. */

#include "agent.h"
#include "ssh_login.h"

/* A public key of the agent to offer, or a certificate of one. */
struct login_offer {
	uint8_t *blob; /* what the server is shown */
	size_t len;
	uint8_t *sign; /* what the agent knows it by */
	size_t sign_len;
};

/*   IDLE ─keys of files─▶ FILES ─▶ logged in
 *     └──────an agent───▶ LISTING ─list─▶ OFFERING ─taken─▶ SIGNING ─▶ SIGNED ─▶ logged in
 *                                           ▲                  │          │
 *                                           └───not signed─────┴───no─────┘
 * No key is left in FILES or OFFERING: refused. alk_login_end(): IDLE, from any of them. */
enum login_state {
	LOGIN_IDLE,
	LOGIN_LISTING,
	LOGIN_FILES,
	LOGIN_OFFERING,
	LOGIN_SIGNING,
	LOGIN_SIGNED,
};

#define LOGIN_FILE_KEYS 2
#define LOGIN_LIST_MS 5000 /* for the agent's list of keys */

struct alk_login {
	struct alk_loop *loop;
	const char *server, *user, *identity; /* identity is NULL without one */
	char agent[128];		      /* the socket's path, "" when there is none */
	char cert_path[512];		      /* of `cert`, "" when there is none */
	ssh_key file_key
		[LOGIN_FILE_KEYS]; /* with its certificate, and plain; NULL when not there */
	uint8_t *wanted;	   /* the agent's key that `identity` names, or NULL: all */
	size_t wanted_len;
	uint8_t *cert; /* of `certificate` or KEY-cert.pub */
	size_t cert_len;
	bool by_agent;
	bool guest;    /* in a program: nobody is asked, nothing is waited for */
	uint8_t *last; /* what the server took the last time, or NULL */
	size_t last_len;

	/* of a session */
	struct alk_ssh *ssh;
	enum login_state state;
	unsigned file_next;
	struct login_offer *offers;
	size_t n_offers, next, batch_end; /* offered are next .. batch_end */
	bool last_first;		  /* the first offer is `last` */
	struct alk_agent_query *query;
	int ours, theirs; /* the socketpair; libssh closes the last `theirs` */
	unsigned not_signed;
	int rc; /* what the agent's answer came to */
	struct alk_err err;
};

/* Ask for the list; `state` is LISTING until it is there. */
int login_agent_list(struct alk_login *l, struct alk_err *err);
/* As alk_login_step(), in the agent's states. */
int login_agent_step(struct alk_login *l, struct alk_err *err);
void login_agent_end(struct alk_login *l);

#endif
