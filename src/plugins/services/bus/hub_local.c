/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"
#include "local_group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/local.h>

#define PREFIX "unix:"

struct wish {
	const char *path; /* NULL: none */
	unsigned mode;
	gid_t gid;
};

static int group_read(const char *name, gid_t *gid, struct alk_err *err)
{
	*gid = (gid_t)-1;
	if (name == NULL || local_group_find(name, gid) == 0)
		return 0;
	return alk_err_set(err, -ENOENT, "listen_group: there is no group \"%s\"", name);
}

static int wish_read(const struct alk_options *options, struct wish *wish, struct alk_err *err)
{
	const char *listen = alk_options_str(options, "listen");
	const char *mode = alk_options_str(options, "listen_mode");
	struct bus_scopes *scopes = NULL;
	char *end;
	int rc;

	wish->path = NULL;
	errno = 0;
	wish->mode = (unsigned)strtoul(mode, &end, 8);
	if (*mode < '0' || *mode > '7' || *end != '\0' || errno != 0 || wish->mode > 0777 ||
	    (wish->mode & 0111) != 0 || (wish->mode & 0600) != 0600)
		return alk_err_set(err, -EINVAL,
				   "listen_mode: \"%s\" is not a mode like 0600, 0660 or 0666",
				   mode);
	rc = local_scopes_read(options, &scopes, err);
	local_scopes_free(&scopes);
	if (rc == 0)
		rc = group_read(alk_options_str(options, "listen_group"), &wish->gid, err);
	if (rc < 0 || listen == NULL || strcmp(listen, "none") == 0)
		return rc;
	if (strncmp(listen, PREFIX, sizeof(PREFIX) - 1) != 0 || listen[sizeof(PREFIX) - 1] != '/')
		return alk_err_set(err, -EINVAL,
				   "listen: \"%s\" is not unix: with an absolute path behind it",
				   listen);
	wish->path = listen + sizeof(PREFIX) - 1;
	return strlen(wish->path) < sizeof(((struct hub *)0)->local_path)
		       ? 0
		       : alk_err_set(err, -ENAMETOOLONG, "listen: %s is longer than 107 bytes",
				     wish->path);
}

static bool wish_is_there(const struct hub *hub, const struct wish *wish)
{
	return hub->local != NULL && strcmp(hub->local_path, wish->path) == 0 &&
	       hub->local_mode == wish->mode && hub->local_gid == wish->gid;
}

int hub_local_read(const struct alk_options *options, struct alk_err *err)
{
	struct wish wish;

	return wish_read(options, &wish, err);
}

int hub_local_check(const struct hub *hub, const struct alk_options *options, struct alk_err *err)
{
	struct alk_local_listener *probe;
	struct wish wish;
	int rc = wish_read(options, &wish, err);

	/* Another mode of the same path is a new socket in its place. */
	if (rc < 0 || wish.path == NULL ||
	    (hub->local != NULL && strcmp(hub->local_path, wish.path) == 0))
		return rc;
	probe = alk_half_listen(hub->half, "listen", wish.path, wish.mode, wish.gid, err);
	if (probe == NULL)
		return -EINVAL;
	alk_half_unlisten(&probe);
	return 0;
}

int hub_local_apply(struct hub *hub, const struct alk_options *options, struct alk_err *err)
{
	struct alk_local_listener *listener = NULL;
	struct wish wish;
	int rc = wish_read(options, &wish, err);

	if (rc < 0)
		return rc;
	if (wish.path == NULL) {
		alk_half_unlisten(&hub->local);
		return 0;
	}
	if (wish_is_there(hub, &wish))
		return 0;
	if (hub->local != NULL && strcmp(hub->local_path, wish.path) == 0)
		alk_half_unlisten(&hub->local);
	listener = alk_half_listen(hub->half, "listen", wish.path, wish.mode, wish.gid, err);
	if (listener == NULL)
		return -EINVAL;
	alk_half_unlisten(&hub->local);
	hub->local = listener;
	snprintf(hub->local_path, sizeof(hub->local_path), "%s", wish.path);
	hub->local_mode = wish.mode;
	hub->local_gid = wish.gid;
	alk_log(ALK_LOG_INFO, "local socket opened", ALK_STR("service", "bus"),
		ALK_STR("path", hub->local_path));
	return 0;
}

void hub_local_deinit(struct hub *hub)
{
	alk_half_unlisten(&hub->local);
}
