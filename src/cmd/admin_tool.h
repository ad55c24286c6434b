/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ADMIN_TOOL_H
#define ADMIN_TOOL_H

/* alknet-admin's parts: alknet-admin.c (arguments and the socket), admin_link.c (the connection),
 * admin_secret.c and admin_ssh_key.c (the secret service), admin_screen.c (watch on a terminal),
 * admin_help.c (help, manual page and completion, from the command table), admin_doc.c (the
 * document), admin_print.c (answers as tables for people). */

#include <stdbool.h>
#include <stdio.h>
#include "admin.h"
#include "admin_socket.h"

#define ADMIN_DEFAULT_SOCKET ALK_ADMIN_SOCKET_DEFAULT

enum status {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_NOT_READY = 3, /* of health */
};

struct tool {
	const char *socket;
	bool json, use_stdin;
	int fd;
	int patience; /* seconds without an answer; 0: any */
	char *buf;
	size_t len, size;
	size_t taken, scanned; /* bytes of messages that were handed out, and that were looked at */
	bool quiet;	       /* a screen is up: say nothing, keep it in `why` */
	char why[256];
};

/* admin_link.c. Each gives a status and has said why on stderr when it is not STATUS_OK. */
int ALK_PRINTF(2, 3) admin_fail(int status, const char *fmt, ...);
int admin_reach(struct tool *tool);
/* As long as this command may take, on a connection that is there. */
void admin_wait_for(struct tool *tool, const char *command);
int admin_ask(struct tool *tool, int id, const char *method, json_t *params);
/* Wait for the next message; NULL after it has said why. */
json_t *admin_next(struct tool *tool);
/* Read what there is, once; then take messages until there is none (NULL and STATUS_OK). */
int admin_read(struct tool *tool);
json_t *admin_take(struct tool *tool, int *status);
int admin_print_error(const json_t *error);
void admin_buffer_deinit(struct tool *tool);
/* All of it: `*result` is a new reference. */
int admin_call(struct tool *tool, const char *method, json_t *params, json_t **result);
/* As --json wants it, or for people. */
void admin_print_answer(const struct tool *tool, FILE *out, const json_t *result);

/* admin_screen.c */
/* Are standard input and output a terminal that can show one? */
bool admin_screen_possible(void);
/* Show the server until a key or a signal ends it; `watch` was asked with id 1. The terminal is as
 * it was before when it returns a status. */
int admin_screen(struct tool *tool);

/* The server's table (admin_commands.def), without handlers; ends with name NULL. */
extern const struct alk_admin_command admin_commands[];
const struct alk_admin_command *admin_command_find(const char *name);

void admin_help(FILE *out);
void admin_help_command(FILE *out, const struct alk_admin_command *command);
void admin_help_man(FILE *out);
/* -EINVAL: there is no such shell. */
int admin_help_completion(const char *shell, FILE *out);
/* admin_doc.c: the commands as docs/ADMIN_API.md has them. -ENOENT: one has no row in
 * admin_results.def. */
int admin_doc(FILE *out);

/* One value as people read it: the key tells its unit. */
void admin_format(const char *key, const json_t *value, char *out, size_t size);
/* An answer for people. What a peer chose (names, addresses) is printed so that it cannot steer a
 * terminal: everything but printable ASCII becomes \xNN. */
void admin_print_result(FILE *out, const json_t *result);
/* One event on one line. */
void admin_print_event(FILE *out, const json_t *event);

#endif
