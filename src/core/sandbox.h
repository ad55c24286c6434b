/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SANDBOX_H
#define ALK_SANDBOX_H

/* What a worker may still do once it has started: the last step before it takes links (option
 * `sandbox`).
 *
 *   seccomp   a list of system calls (sandbox_calls.def). All others fail with EPERM: no execve, no ptrace, no new
 *             process or thread, no file opened for writing, no socket but of the internet, unix and route netlink
 *   landlock  files: the plugin directory and the system's libraries (plugin.load), what names are resolved with
 *             (/etc/resolv.conf, /etc/hosts ...) as they are at the start, and nothing else. Unix sockets are connected
 *             to by path all the same
 *
 * Each is used where the kernel has it. Programs that run under valgrind or with sanitizers, which
 * need more, get none. */

#include <stdbool.h>
#include <alknet/err.h>

struct alk_sandbox {
	const char *plugin_dir;
};

/* What this process could use: "seccomp, landlock 3", "partial: seccomp, but no landlock in this
 * kernel", "none: ...". Static. */
const char *alk_sandbox_describe(void);
/* Can all of it be used? */
bool alk_sandbox_whole(void);
/* Does this process run under valgrind? */
bool alk_sandbox_valgrind(void);
/* For good. 0; -errno with `err` when the kernel has it and refuses. What it does not have is left
 * out. */
int alk_sandbox_enter(const struct alk_sandbox *sandbox, struct alk_err *err);

#endif
