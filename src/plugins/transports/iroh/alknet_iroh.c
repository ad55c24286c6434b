/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* alknet-iroh: the plugin starts it with a socket as descriptor COMPANION_FD, and it lives as long
 * as the socket. It gives away what it does not need, and then is one iroh endpoint
 * (crate/src/lib.rs). It opens no file of ours: its key comes over the socket. */
#include "alknet_iroh.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../../common/companion.h"

#define NOBODY 65534

static void limits_set(void)
{
	struct rlimit none = {0, 0}, files;

	setrlimit(RLIMIT_CORE, &none);
	/* A link is a descriptor. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int privileges_drop(void)
{
	const struct passwd *nobody = geteuid() == 0 ? getpwnam("nobody") : NULL;
	uid_t uid = nobody != NULL ? nobody->pw_uid : NOBODY;
	gid_t gid = nobody != NULL ? nobody->pw_gid : NOBODY;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -errno;
	if (geteuid() == 0 && (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
			       setresuid(uid, uid, uid) != 0))
		return -errno;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ? -errno : 0;
}

int main(void)
{
	struct stat st;
	int rc;

	if (fstat(COMPANION_FD, &st) != 0 || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "alknet-iroh: is started by alknet, not by hand\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	limits_set();
	rc = privileges_drop();
	if (rc < 0 || chdir("/") != 0) {
		fprintf(stderr, "alknet-iroh: cannot give up its privileges: %s\n",
			strerror(rc < 0 ? -rc : errno));
		return 1;
	}
	return alk_iroh_run(COMPANION_FD);
}
