/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "privileges.h"

static int become(const struct passwd *pw, struct alk_err *err)
{
	if (initgroups(pw->pw_name, pw->pw_gid) < 0 ||
	    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
		return alk_err_set(err, -errno, "cannot become user %s: %s", pw->pw_name,
				   strerror(errno));
	/* A change of user that can be taken back is none. */
	if (pw->pw_uid != 0 &&
	    (setuid(0) == 0 || geteuid() != pw->pw_uid || getegid() != pw->pw_gid))
		return alk_err_set(err, -EPERM, "user %s could become root again", pw->pw_name);
	/* setresuid made the process dumpable as the new user's. */
	prctl(PR_SET_DUMPABLE, 0);
	return 0;
}

int alk_privileges_drop(const char *user, struct alk_err *err)
{
	const struct passwd *pw;
	int rc = 0;

	if (user) {
		errno = 0;
		pw = getpwnam(user);
		if (!pw)
			return alk_err_set(err, -EINVAL, "user: there is no user %s", user);
		if (geteuid() == 0)
			rc = become(pw, err);
		else if (pw->pw_uid != geteuid())
			rc = alk_err_set(err, -EPERM, "user: only root can become user %s", user);
	}
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = alk_err_set(err, -errno, "no_new_privs: %s", strerror(errno));
	return rc;
}
