/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_COMPANION_H
#define ALKNET_COMPANION_H

/* A companion: a program that lies beside a plugin and does what must not be in the process of the
 * loop, because it blocks, has threads or brings a runtime of its own (alknet-acme, alknet-iroh,
 * alknet-nats). Plugin and program speak over one socket, which is the program's descriptor
 * COMPANION_FD; what they say there is theirs.
 *
 * The program begins as one that a shell starts: signals at their defaults and none blocked,
 * alknet's environment, directory and stderr. It has a session of its own (Ctrl-C is not for it),
 * /dev/null as stdin and stdout, and no other descriptor. It is asked to live as long as its
 * socket, so that it ends with alknet however that ends; what it may have less of (user, limits,
 * dumps) it gives up itself. When it is started again after it ended is the plugin's to know.
 *
 * Compiled into each plugin that has one: the program is looked for in the directory that this code
 * was loaded from.
 * Start here if you add one: a `static const struct companion_kind`, a line in helper_PROGRAMS of
 * plugins.mk. */

#include <stddef.h>
#include <sys/types.h>
#include <alknet/err.h>

#define COMPANION_FD 3 /* the program's end of the socket */
#define COMPANION_PATH_MAX 4096

struct companion_kind {
	const char *name;  /* of the program's file */
	const char *needs; /* begins a sentence that ends in the path: "ACME needs" */
	int type;	   /* SOCK_SEQPACKET or SOCK_STREAM; with SOCK_NONBLOCK both ends are so */
	int buffer;	   /* bytes that either end may have on its way; 0: what the system gives */
};

/* {.fd = -1} is one that does not run. */
struct companion {
	pid_t pid; /* 0: there is none to be waited for */
	int fd;	   /* our end, close-on-exec */
};

/* Where the program is. Returns 0, or -ENOENT, -EACCES ... with `err` that names the path. */
int companion_find(const struct companion_kind *kind, char path[COMPANION_PATH_MAX],
		   struct alk_err *err);

/* Start one that does not run; borrows `kind` during the call. Returns 0, or -errno with `err`: the
 * program cannot be found or executed, or descriptors, memory or processes are out. It does not run
 * then. What it does once it runs is not looked at. */
int companion_start(struct companion *companion, const struct companion_kind *kind,
		    struct alk_err *err);

/* Close the socket, kill the program and wait for it, which is short. One that should end by itself
 * has its socket closed first (alk_fd_close) and is given time. May be called for one that does not
 * run. */
void companion_end(struct companion *companion);

#endif
