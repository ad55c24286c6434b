/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ADMIN_TOOL_H
#define ADMIN_TOOL_H

/* alknet-admin's parts: alknet-admin.c (arguments and the socket), admin_help.c (help and the manual
 * page, from the command table), admin_print.c (answers as tables for people). */

#include <stdio.h>
#include "admin.h"

#define ADMIN_DEFAULT_SOCKET "/run/alknet/admin.sock"

/* The server's table (admin_commands.def), without handlers; ends with name NULL. */
extern const struct alk_admin_command admin_commands[];
const struct alk_admin_command *admin_command_find(const char *name);

void admin_help(FILE *out);
void admin_help_command(FILE *out, const struct alk_admin_command *command);
void admin_help_man(FILE *out);

/* An answer for people. What a peer chose (names, addresses) is printed so that it cannot steer a
 * terminal: everything but printable ASCII becomes \xNN. */
void admin_print_result(FILE *out, const json_t *result);
/* One event on one line. */
void admin_print_event(FILE *out, const json_t *event);

#endif
