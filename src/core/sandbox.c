/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <alknet/loop.h>
#ifdef HAVE_SECCOMP
#include <seccomp.h>
#endif

#ifndef __has_feature /* clang's */
#define __has_feature(name_) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||                               \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                     \
	__has_feature(memory_sanitizer)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* Landlock: the numbers of all architectures. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

/* Access to files by the ABI that first had it; older headers do not know all. */
#define ACCESS_ABI1 ((1ULL << 13) - 1)
#define ACCESS_REFER (1ULL << 13)    /* ABI 2 */
#define ACCESS_TRUNCATE (1ULL << 14) /* ABI 3 */

/* What names are resolved with, and the time zone. Those that are links into a directory that a
 * program keeps (resolved, NetworkManager) are replaced there, so the directory is what is let
 * in. */
static const char *const resolving[] = {
	"/etc/resolv.conf", "/etc/hosts",    "/etc/nsswitch.conf", "/etc/host.conf",
	"/etc/gai.conf",    "/etc/services", "/etc/localtime",	   "/etc/ld.so.cache",
	"/dev/null",	    "/dev/urandom",
};
static const char *const libraries[] = {
	"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib",
};

/* A build for coverage writes what it counted at its end. */
extern void __gcov_dump(void) __attribute__((weak));

bool alk_sandbox_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

static int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
			   (unsigned)LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

/* What keeps all of it from being used, or NULL. */
static const char *hindrance(void)
{
	if (SANITIZED)
		return "built with sanitizers, which need more";
	if (&__gcov_dump != NULL)
		return "built for coverage, which needs more";
	return alk_sandbox_valgrind() ? "under valgrind, which needs more" : NULL;
}

/* Why there is no landlock, or NULL. A container's filter may keep the kernel's from us. */
static const char *no_landlock(void)
{
	if (landlock_abi() > 0)
		return NULL;
	return errno == ENOSYS || errno == EOPNOTSUPP ? "no landlock in this kernel"
						      : "landlock is not permitted here";
}

/* Why there is no filter of system calls, or NULL. */
static const char *no_seccomp(void)
{
#ifdef HAVE_SECCOMP
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 ? "no seccomp in this kernel" : NULL;
#else
	return "no seccomp in this build";
#endif
}

/* Can any of it be used? */
static bool sandbox_usable(void)
{
	return hindrance() == NULL;
}

bool alk_sandbox_whole(void)
{
	return sandbox_usable() && no_seccomp() == NULL && no_landlock() == NULL;
}

const char *alk_sandbox_describe(void)
{
	static char text[96];
	const char *why = hindrance(), *calls = no_seccomp(), *files;

	if (why != NULL) {
		snprintf(text, sizeof(text), "none: %s", why);
		return text;
	}
	files = no_landlock();
	if (calls == NULL && files == NULL)
		snprintf(text, sizeof(text), "seccomp, landlock %d", landlock_abi());
	else if (calls == NULL)
		snprintf(text, sizeof(text), "partial: seccomp, but %s", files);
	else if (files == NULL)
		snprintf(text, sizeof(text), "partial: landlock %d, but %s", landlock_abi(), calls);
	else
		snprintf(text, sizeof(text), "none: %s, and %s", calls, files);
	return text;
}

/* Files */

/* What is not there is not let in. */
static int let_in(int rules, const char *path, struct alk_err *err)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
		.parent_fd = open(path, O_PATH | O_CLOEXEC),
	};
	struct stat st;
	int rc = 0;

	if (rule.parent_fd < 0)
		return 0;
	if (fstat(rule.parent_fd, &st) == 0 && S_ISDIR(st.st_mode))
		rule.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0u) < 0)
		rc = alk_err_set(err, -errno, "sandbox: landlock: %s: %s", path, strerror(errno));
	close(rule.parent_fd);
	return rc;
}

/* The directory of what a link in /etc points to, if that is elsewhere. */
static int let_in_target(int rules, const char *path, struct alk_err *err)
{
	char real[PATH_MAX], *slash;

	if (realpath(path, real) == NULL || strncmp(real, "/run/", 5) != 0)
		return 0;
	slash = strrchr(real, '/');
	if (slash <= real + 4)
		return 0; /* never /run itself */
	*slash = '\0';
	return let_in(rules, real, err);
}

static int landlock_rules(int rules, const struct alk_sandbox *sandbox, struct alk_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(resolving) / sizeof(resolving[0]); i++) {
		rc = let_in(rules, resolving[i], err);
		if (rc == 0)
			rc = let_in_target(rules, resolving[i], err);
	}
	for (size_t i = 0; rc == 0 && i < sizeof(libraries) / sizeof(libraries[0]); i++)
		rc = let_in(rules, libraries[i], err);
	if (rc == 0 && sandbox->plugin_dir != NULL)
		rc = let_in(rules, sandbox->plugin_dir, err);
	return rc;
}

static int landlock_enter(const struct alk_sandbox *sandbox, struct alk_err *err)
{
	int abi = landlock_abi(), rules, rc;
	struct landlock_ruleset_attr attr = {
		.handled_access_fs = ACCESS_ABI1 | (abi >= 2 ? ACCESS_REFER : 0) |
				     (abi >= 3 ? ACCESS_TRUNCATE : 0),
	};

	if (abi == 0)
		return 0;
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs),
			     0u);
	if (rules < 0)
		return alk_err_set(err, -errno, "sandbox: landlock: %s", strerror(errno));
	rc = landlock_rules(rules, sandbox, err);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, rules, 0u) < 0)
		rc = alk_err_set(err, -errno, "sandbox: landlock: %s", strerror(errno));
	alk_fd_close(&rules);
	return rc;
}

/* System calls */

#ifdef HAVE_SECCOMP
static int call_allow(scmp_filter_ctx filter, const char *name)
{
	int number = seccomp_syscall_resolve_name(name);

	return number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}

/* Those whose arguments decide. */
static int calls_with_arguments(scmp_filter_ctx filter)
{
	static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
	static const int prctls[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_DUMPABLE};
	const struct scmp_arg_cmp reading = SCMP_CMP(2, SCMP_CMP_MASKED_EQ,
						     O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(families) / sizeof(families[0]); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
	/* Interfaces and routes: what the resolver sorts addresses by. */
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
				      SCMP_A0(SCMP_CMP_EQ, AF_NETLINK), SCMP_A2(SCMP_CMP_EQ, 0));
	for (size_t i = 0; rc == 0 && i < sizeof(prctls) / sizeof(prctls[0]); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)prctls[i]));
	if (rc == 0)
		rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1, &reading);
#ifdef __NR_open
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(open), 1,
				      SCMP_A1(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC,
					      O_RDONLY));
#endif
	/* A terminal or not; how much there is to read; interface numbers of addresses with a zone.
	 * Not what types into a terminal (TIOCSTI). */
	for (size_t i = 0; rc == 0 && i < 5; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_EQ,
					      (const scmp_datum_t[]){0x5401 /* TCGETS */,
								     0x541b /* FIONREAD */,
								     0x5421 /* FIONBIO */,
								     0x5411 /* SIOCOUTQ */,
								     0x8933 /* SIOCGIFINDEX */}
						      [i]));
	/* Limits are looked at, not set; abort() sends a signal to itself. */
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				      SCMP_A2(SCMP_CMP_EQ, 0));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	return rc;
}

static int seccomp_enter(struct alk_err *err)
{
	static const char *const calls[] = {
#define CALL(name_) #name_,
#include "sandbox_calls.def"
#undef CALL
	};
	scmp_filter_ctx filter;
	int rc;

	if (no_seccomp() != NULL)
		return 0;
	filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	rc = filter != NULL ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		rc = call_allow(filter, calls[i]);
	if (rc == 0)
		rc = calls_with_arguments(filter);
	if (rc == 0)
		rc = seccomp_load(filter);
	if (filter != NULL)
		seccomp_release(filter);
	return rc == 0 ? 0 : alk_err_set(err, rc, "sandbox: seccomp: %s", strerror(-rc));
}
#else
static int seccomp_enter(struct alk_err *err)
{
	(void)err;
	return 0;
}
#endif

int alk_sandbox_enter(const struct alk_sandbox *sandbox, struct alk_err *err)
{
	int rc;

	if (!sandbox_usable())
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return alk_err_set(err, -errno, "sandbox: no_new_privs: %s", strerror(errno));
	rc = landlock_enter(sandbox, err);
	return rc < 0 ? rc : seccomp_enter(err);
}
