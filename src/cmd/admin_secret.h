/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ADMIN_SECRET_H
#define ADMIN_SECRET_H

/* The commands secret.* of alknet-admin that need more than a question: the phrase is read without
 * echo, a private key comes and goes in locked memory and is never a value of jansson. */

#include "admin_tool.h"

/* A command that is ours; `params` were checked and may be changed. */
bool admin_secret_is(const char *name);
int admin_secret_run(struct tool *tool, const char *name, json_t *params);

/* An answer on its way to jansson: the private key in it becomes asterisks. */
void admin_secret_take(char *line, size_t len);

#endif
