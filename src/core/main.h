/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_MAIN_H
#define ALK_MAIN_H

/* The programs' entry points, and what their starts have in common. src/cmd/alknet.c chooses one by
 * the first word of the command line. Each returns the exit status: 0; 2 when an option, a file, a
 * policy or an address is wrong; 1 when it failed while it ran. */

#include <stdio.h>
#include "conf.h"

/* argv[0] is the subcommand. */
int alk_main_serve(int argc, char **argv);
int alk_main_connect(int argc, char **argv);
int alk_main_check(int argc, char **argv);
int alk_main_policy(int argc, char **argv);
int alk_main_secret(int argc, char **argv);
int alk_main_pub(int argc, char **argv);
int alk_main_sub(int argc, char **argv);
int alk_main_call(int argc, char **argv);
/* What the supervisor starts: fd 3 is the control socket. */
int alk_main_worker(void);

/* The beginning of serve and connect: process settings, flags, environment and file into a finished
 * configuration with its files read, the log set up, the fd limit raised and logged. Gives the
 * configuration. NULL: it has said why on stderr (or printed --help), leave with *status. */
struct alk_conf *alk_main_conf(int argc, char **argv, enum alk_role role, int *status);

/* "alknet: SENTENCE" on stderr; returns `status`. */
int alk_main_fail(int status, const struct alk_err *err);

#endif
