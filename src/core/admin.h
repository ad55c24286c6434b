/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_ADMIN_H
#define ALK_ADMIN_H

/* The admin socket: JSON-RPC 2.0, one object a line, at most 64 KiB, over a unix socket of mode
 * 0600. A table of commands (admin_commands.def) with the specification of their arguments, which
 * is checked before the handler runs; alknet-admin's help is made from the same table.
 *
 * Start here if you add a command: a line in admin_commands.def and its handler. */

#include <jansson.h>
#include <sys/types.h>
#include <alknet/loop.h>

#define ALK_ADMIN_LINE_MAX 65536
#define ALK_ADMIN_CLIENTS_MAX 128

struct alk_admin;
struct alk_admin_call; /* one request that waits for its answer */

struct alk_admin_param {
	const char *name; /* NULL ends the list */
	char type;	  /* s string, t long string, i integer, b boolean */
	bool required;
	const char *help;
	const char *
		choices; /* of a string, split by |; NULL = any. For completion: the handler checks */
};

struct alk_admin_command {
	const char *name; /* "session.list" */
	bool changes;	  /* something: then who called is logged */
	const char *help;
	struct alk_admin_param params[10];
	/* Answer now or later, exactly once, with alk_admin_result or alk_admin_error. `params` is
	 * borrowed for the call and has been checked. */
	void (*run)(void *user, struct alk_admin_call *call, json_t *params);
};

/* A line of admin_commands.def and its like without `run`: for help, completion and checks of
 * parameters. */
#define ALK_ADMIN_ROW(id_, name_, changes_, help_, ...)                                            \
	{.name = (name_),                                                                          \
	 .changes = (changes_),                                                                    \
	 .help = (help_),                                                                          \
	 .params = {__VA_ARGS__ __VA_OPT__(, ){0}}},

/* Bind `path` (at most 107 bytes; a stale socket is replaced after a probe; a live one is an error;
 * the directory is made 0700 if it is missing). `commands` ends with name NULL, borrowed for life.
 * At most 128 clients, of uid 0 or our own. One file descriptor is kept in reserve, so that a
 * client is heard when the process has no other left. NULL with `err`. */
struct alk_admin *alk_admin_new(struct alk_loop *loop, const char *path,
				const struct alk_admin_command *commands, void *user,
				struct alk_err *err);
/* Hear these users too, up to ALK_ADMIN_USERS_MAX; copies. With any the socket is open to everybody
 * (mode 0666) and the kernel's word on who called decides; without it has mode 0600. */
#define ALK_ADMIN_USERS_MAX 64
void alk_admin_set_users(struct alk_admin *admin, const uid_t *uids, size_t n);
/* One name or number of a user. 0, or -ENOENT with `err`. */
int alk_admin_user_parse(const char *text, uid_t *uid, struct alk_err *err);
/* Take no more clients, or take them again. */
void alk_admin_pause(struct alk_admin *admin, bool paused);
/* Another program takes them now, at the same path; those that are there stay. */
void alk_admin_leave(struct alk_admin *admin);
/* Closes every client and removes the socket file. */
void alk_admin_free(struct alk_admin **admin);

/* A call without a socket, from the program itself. `params` is taken, NULL is none. `answer` gets
 * the result, or NULL and why not, once and perhaps before this returned; of a stream each event,
 * and `true` first. It borrows what it gets. 0; -ENOMEM, then it does not run. */
typedef void alk_admin_local_fn(void *user, json_t *result, const char *error);
int alk_admin_local(const struct alk_admin_command *commands, void *commands_user,
		    const char *method, json_t *params, alk_admin_local_fn *answer, void *user);

/* End a stream of such a call: `closed` runs now. */
void alk_admin_local_end(struct alk_admin_call *call);

/* Takes `result`. The client may have gone meanwhile: then nothing is sent. */
void alk_admin_result(struct alk_admin_call **call, json_t *result);
/* The same for what must not stay in memory: `result` is JSON text, which becomes no value, and is
 * wiped from every buffer once it was sent. Borrows it. */
void alk_admin_result_text(struct alk_admin_call **call, const char *result);
#define ALK_ADMIN_FAILED (-32000)
#define ALK_ADMIN_BAD_PARAMS (-32602)
void alk_admin_error(struct alk_admin_call **call, int code, const char *fmt, ...) ALK_PRINTF(3, 4);
/* A stream (watch): answers true, keeps the call and sends notifications
 * {"method":"event","params":...} until the client goes (then `closed` runs, from the loop, and the
 * call is gone). A client that does not read is dropped at 1 MiB. Takes `event`. */
void alk_admin_stream(struct alk_admin_call *call,
		      void (*closed)(void *user, struct alk_admin_call *call), void *user);
void alk_admin_event(struct alk_admin_call *call, json_t *event);

#endif
