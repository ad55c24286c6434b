/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_POLICY_H
#define ALK_POLICY_H

/* The policy: an operator's Lua script that answers with a word. Everything that is not exactly one
 * of the words denies: an error, a timeout, a number, nil, a missing reason is fine.
 *
 * One Lua state a worker, in a sandbox with budgets (STYLE 15 to 17): 20 ms a resume, 5 s in all,
 * 32 MiB a state, peer strings cut at 255 bytes. A question runs as a coroutine with a generation,
 * is resumed by the loop alone and completes exactly once. Only the policy files include <lua.h>.
 *
 * Without a script the built-in answers hold: on_link allow, on_auth pass, on_open forward for what
 * is not reserved, the service of the reserved destinations for those (alknet-control: bus,
 * alknet-secret: secret, alknet-status: status), other alknet-* denied, on_listen allow on loopback
 * and, with gateway_ports, elsewhere. They are what the shipped scripts/policy.lua says, in C. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <alknet/loop.h>
#include <alknet/service.h>
#include <alknet/transport.h>

/* The words of an answer; zero is the safe one. */
#define ALK_VERDICTS(X)                                                                            \
	X(DENY, "deny")                                                                            \
	X(ALLOW, "allow")                                                                          \
	X(PASS, "pass")                                                                            \
	X(FORWARD, "forward")                                                                      \
	X(SERVICE, "service")

enum alk_verdict {
#define X(id_, word_) ALK_VERDICT_##id_,
	ALK_VERDICTS(X)
#undef X
};
const char *alk_verdict_str(enum alk_verdict verdict);

/* The questions: on_NAME in the script, and the words that it may answer with. */
#define ALK_QUESTIONS(X)                                                                           \
	X(LINK, "on_link", "allow|deny")                                                           \
	X(AUTH, "on_auth", "allow|deny|pass")                                                      \
	X(OPEN, "on_open", "forward|service|deny")                                                 \
	X(LISTEN, "on_listen", "allow|deny")                                                       \
	X(PUBLISH, "on_publish", "allow|deny")                                                     \
	X(SUBSCRIBE, "on_subscribe", "allow|deny")                                                 \
	X(CALL, "on_call", "allow|deny")                                                           \
	X(EVENT, "on_event", "")                                                                   \
	X(CLOSE, "on_close", "")

enum alk_question {
#define X(id_, name_, words_) ALK_QUESTION_##id_,
	ALK_QUESTIONS(X)
#undef X
	ALK_QUESTION_COUNT,
	ALK_QUESTION_OPERATION, /* no question: the handler of an alknet.operation, run as one */
};

/* What the certificate behind a login says. */
struct alk_grant_cert {
	uint64_t serial;
	uint64_t valid_before; /* seconds since 1970; UINT64_MAX = for ever */
	const char *key_id;
	const char *ca_fingerprint;    /* "SHA256:..." */
	const char *const *principals; /* ends with NULL */
};

/* What a line of authorized_keys or a certificate takes away; all zero takes nothing. */
struct alk_grant_limits {
	bool no_forwarding; /* nothing may be opened or listened on */
	const char *const *
		permit_open; /* "host:port" as permitopen= has them, ends with NULL; NULL = anywhere */
	const char *const
		*permit_listen; /* "port" or "host:port" as permitlisten= has them, as above */
	int64_t expires;	/* of the line, seconds since 1970; 0 = never */
	const struct alk_grant_cert *cert; /* NULL: a plain key */
};

const char *alk_question_str(enum alk_question question); /* "on_open" */
/* ALK_QUESTION_COUNT when there is none of this name. */
enum alk_question alk_question_find(const char *name);

/* An identity as the policy or the built-in authentication gave it, and what it may not do.
 * Reference counted, immutable. */
struct alk_grant {
	unsigned refs;
	struct alk_identity identity; /* strings owned by the grant */
	char **scopes;
	char **resources;		/* ends with NULL; may be NULL */
	struct alk_grant_limits limits; /* all that it points to is owned by the grant */
};
/* Copies all. NULL when out of memory. */
struct alk_grant *alk_grant_new(const char *id, const char *user, const char *key_fingerprint,
				const char *const *scopes, const char *const *resources);
/* The same with limits; `limits` may be NULL. */
struct alk_grant *alk_grant_new_limited(const char *id, const char *user,
					const char *key_fingerprint, const char *const *scopes,
					const char *const *resources,
					const struct alk_grant_limits *limits);
struct alk_grant *alk_grant_ref(struct alk_grant *grant);
void alk_grant_unref(struct alk_grant **grant);
/* May a channel be opened to this destination, or a remote forward listen there? Asked before the
 * policy is; a policy can only take away more. Names are compared as they were asked for, nothing
 * is resolved. permitopen: the same host, or *; the same port, or *. A unix path ("/..." for
 * `host`) is in no list. permitlisten: a pattern with * and ? for the address asked for, in small
 * letters ("" is what "every address" is asked with); port 0 (any free one) needs the port *.
 * (sshd(8), AUTHORIZED_KEYS FILE FORMAT.) No grant may nothing. */
bool alk_grant_may_open(const struct alk_grant *grant, const char *host, uint16_t port);
bool alk_grant_may_listen(const struct alk_grant *grant, const char *host, uint16_t port);
/* Can this stand in a permitopen= or (`listen`) permitlisten= list? */
bool alk_grant_permit_valid(const char *permit, bool listen);

/* What a certificate says, for on_auth; all checks that do not depend on the policy (signature,
 * validity, CA, revocation) were made. Borrowed. Lists end with NULL and are never NULL; an option
 * or extension without a value has "" for it. */
struct alk_ask_cert {
	const char *key_id;
	uint64_t serial;
	const char *ca_fingerprint; /* "SHA256:..." */
	const char *const *principals;
	/* name, value, name, value, ..., NULL */
	const char *const *critical_options;
	const char *const *extensions;
	uint64_t valid_after, valid_before; /* seconds since 1970; UINT64_MAX: for ever */
};

/* Copies what on_auth is to see of a certificate that was parsed. NULL when out of memory. */
struct alk_cert;
struct alk_ask_cert *alk_ask_cert_new(const struct alk_cert *cert);
void alk_ask_cert_free(struct alk_ask_cert **cert);

/* What is asked. All strings borrowed until `done` ran or the question was cancelled. */
struct alk_ask {
	enum alk_question question;
	uint64_t session;		 /* number of the session, 0 for on_link */
	const struct alk_link *link;	 /* always */
	const char *user;		 /* AUTH, OPEN, LISTEN, CLOSE */
	const char *key_type;		 /* AUTH: "ssh-ed25519" */
	const char *key_fingerprint;	 /* AUTH: "SHA256:..." */
	const char *key;		 /* AUTH: base64 of the public key blob */
	const struct alk_ask_cert *cert; /* AUTH: NULL when the key has no certificate */
	const struct alk_grant *grant;	 /* OPEN, LISTEN, CLOSE */
	/* OPEN: where to. LISTEN: host and port (0: any) or path to listen on, as the peer asked
	 * for them; RFC 4254 7.1: "" is all addresses. */
	const struct alk_destination *to;
	bool gateway_ports; /* LISTEN: the option's value */
	const char *
		name; /* PUBLISH, EVENT: the type; SUBSCRIBE: the pattern; CALL, OPERATION: the operation */
	const char *id;		    /* PUBLISH, EVENT */
	size_t size;		    /* PUBLISH, EVENT: bytes of the envelope */
	const struct json_t *value; /* EVENT: the payload; OPERATION: the input; NULL = null */
	int function;		    /* OPERATION: the handler's reference */
	double duration;	    /* CLOSE: seconds */
	const char *reason;	    /* CLOSE */
};

struct alk_answer {
	enum alk_verdict verdict;
	bool failed; /* the script erred, timed out or spoke nonsense; verdict is DENY */
	char reason
		[256]; /* the script's for a DENY; when it failed: what went wrong, not for the peer */
	struct alk_grant *grant; /* AUTH allow: given to `done` (take a reference to keep) */
	/* OPEN forward, LISTEN allow: */
	char host[256]; /* "" = as asked for. LISTEN: an address, "localhost" or "*" (all) */
	uint16_t port;	/* 0 = as asked for */
	char path[108]; /* unix socket, when the script said {path=...} */
	/* OPEN forward: */
	char via[256]; /* a proxy URL, "none" for no proxy, or "" */
	char bind[64];
	bool proxy_protocol; /* tell the target who comes */
	/* OPEN service: */
	char service[32];
	/* OPERATION: what it gave, to be kept by `done` with a reference; NULL when it failed, then
	 * `code` is the bus's word for it ("" when `failed`) and `reason` the message. */
	struct json_t *output;
	char code[65];
	char where[128];     /* "policy.lua:12", the line that decided, or "built-in" */
	uint32_t elapsed_us; /* time in Lua */
};

typedef void alk_policy_done(void *user, const struct alk_answer *answer);

struct alk_policy;
struct alk_policy_asked; /* a question under way */

struct alk_policy_limits {
	uint32_t resume_ms; /* 0 = 20 */
	uint32_t total_ms;  /* 0 = 5000 */
	size_t memory;	    /* 0 = 32 MiB */
};

/* Compile and run the script's main chunk. `name` is what messages call it; text NULL = built-in.
 * NULL with `err`: file:line and why. The loop may be NULL for alk_policy_ask_now. */
struct alk_policy *alk_policy_new(struct alk_loop *loop, const char *name, const char *text,
				  size_t len, const struct alk_policy_limits *limits,
				  struct alk_err *err);
/* The same, where alknet.shared is `shared`, from the main chunk on; borrowed for life. Without it
 * the policy has a dictionary of its own. */
struct alk_shared;
struct alk_policy *alk_policy_new_shared(struct alk_loop *loop, const char *name, const char *text,
					 size_t len, const struct alk_policy_limits *limits,
					 struct alk_shared *shared, struct alk_err *err);
/* Cancel what was asked first: questions still under way are dropped, `done` does not run. */
void alk_policy_free(struct alk_policy **policy);
/* Offer the script's operations there, subscribe to what it wants; borrowed for life. Without it
 * alknet.publish finds no bus. -EEXIST or -ENOMEM with `err`. */
struct alk_bus;
int alk_policy_set_bus(struct alk_policy *policy, struct alk_bus *bus, struct alk_err *err);
/* The operations that the script has. */
struct alk_policy_operation;
const struct alk_policy_operation *alk_policy_operation_find(const struct alk_policy *policy,
							     const char *name);
int alk_policy_operation_function(const struct alk_policy_operation *operation);
/* Does the script define this function? */
bool alk_policy_has(const struct alk_policy *policy, enum alk_question question);

/* Ask. Borrows `ask` (what it points to, not itself) until `done` runs. `done` runs exactly once,
 * from the loop, never before this call returns. Cancel with alk_policy_cancel(); then it does not
 * run at all. NULL only when out of memory: the caller denies. `done` may be NULL for CLOSE. */
struct alk_policy_asked *alk_policy_ask(struct alk_policy *policy, const struct alk_ask *ask,
					alk_policy_done *done, void *user);
void alk_policy_cancel(struct alk_policy_asked **asked);
/* Ask where the answer does not wait: fills `answer` before it returns. A script that yields is
 * denied (failed). For tests and tools; unref answer->grant. */
void alk_policy_ask_now(struct alk_policy *policy, const struct alk_ask *ask,
			struct alk_answer *answer);

/* Reserved destinations begin with "alknet-" (case-sensitive). */
bool alk_destination_reserved(const char *host);
/* Would a listener there be reached from this machine alone? False for a unix socket. */
bool alk_bind_is_loopback(const struct alk_destination *to);

/* Run the tests of the policy in the file `path`: NAME_test.lua beside NAME.lua
 * (docs/POLICY_API.md). Prints TAP and "N passed, N failed" to `out`. Returns how many failed;
 * -ENOENT when there is no such test file; -EINVAL when the policy or its tests cannot be loaded,
 * or test nothing; with `err`. */
int alk_policy_test_file(const char *path, FILE *out, struct alk_err *err);
/* The same, told one by one: the n-th `of` them; `why` NULL = it passed. */
typedef void alk_policy_test_fn(void *user, int n, int of, const char *name, const char *why);
int alk_policy_test_each(const char *path, alk_policy_test_fn *told, void *user,
			 struct alk_err *err);

#endif
