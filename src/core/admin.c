/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <alknet/log.h>
#include "text.h"

#define ADMIN_MAGIC 0x6e6d6461u /* "admn" */
#define ACCEPT_BUDGET 64
#define ACCEPT_PAUSE_MS 100

void admin_spare_refill(struct alk_admin *admin)
{
	if (admin->spare < 0)
		admin->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool user_may(const struct alk_admin *admin, uid_t uid)
{
	if (uid == 0 || uid == geteuid())
		return true;
	for (size_t i = 0; i < admin->n_users; i++)
		if (admin->users[i] == uid)
			return true;
	return false;
}

static bool peer_may(struct alk_admin *admin, int fd, struct ucred *peer)
{
	socklen_t len = sizeof(*peer);
	uint64_t now = alk_loop_now(admin->loop);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &len) != 0)
		return false;
	if (user_may(admin, peer->uid))
		return true;
	if (admin->refused_logged == 0 || now - admin->refused_logged >= 1000) {
		admin->refused_logged = now;
		alk_log(ALK_LOG_WARN, "admin client refused", ALK_INT("uid", peer->uid),
			ALK_INT("pid", peer->pid));
	}
	return false;
}

static void client_take(struct alk_admin *admin, int fd)
{
	static const char full[] = "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32000,"
				   "\"message\":\"there are too many admin clients\"}}\n";
	struct ucred peer;

	if (peer_may(admin, fd, &peer)) {
		if (admin->nclients < ALK_ADMIN_CLIENTS_MAX && admin_client_new(admin, fd, &peer))
			return;
		if (admin->nclients >= ALK_ADMIN_CLIENTS_MAX)
			send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	alk_fd_close(&fd);
	admin_spare_refill(admin);
}

static int accept_one(struct alk_admin *admin)
{
	int fd = accept4(admin->sock.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE) && admin->spare >= 0) {
		alk_fd_close(&admin->spare);
		fd = accept4(admin->sock.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	}
	return fd < 0 ? -errno : fd;
}

static struct alk_admin *admin_of(void *user)
{
	struct alk_admin *admin = user;

	assert(admin->magic == ADMIN_MAGIC);
	return admin;
}

static void on_accept(void *user, int revents)
{
	struct alk_admin *admin = admin_of(user);

	(void)revents;
	for (int i = 0; i < ACCEPT_BUDGET; i++) {
		int fd = accept_one(admin);

		if (fd >= 0) {
			client_take(admin, fd);
			continue;
		}
		if (fd == -EINTR || fd == -ECONNABORTED)
			continue;
		if (fd != -EAGAIN) { /* no descriptor, no memory: later */
			alk_io_set(admin->io, 0);
			alk_timer_start(admin->pause, ACCEPT_PAUSE_MS);
		}
		admin_spare_refill(admin);
		return;
	}
}

static void on_pause_over(void *user)
{
	struct alk_admin *admin = admin_of(user);

	alk_io_set(admin->io, ALK_IO_READ);
}

struct alk_admin *alk_admin_new(struct alk_loop *loop, const char *path,
				const struct alk_admin_command *commands, void *user,
				struct alk_err *err)
{
	struct alk_admin *admin = calloc(1, sizeof(*admin));

	if (admin == NULL) {
		alk_err_set(err, -ENOMEM, "admin_socket: out of memory");
		return NULL;
	}
	admin->magic = ADMIN_MAGIC;
	admin->loop = loop;
	admin->commands = commands;
	admin->user = user;
	admin->spare = -1;
	if (alk_admin_socket_open(&admin->sock, path, err) != 0)
		goto fail;
	admin_spare_refill(admin);
	admin->io = alk_io_new(loop, admin->sock.fd, "admin socket", on_accept, admin);
	admin->pause = alk_timer_new(loop, "admin accept pause", on_pause_over, admin);
	if (admin->io == NULL || admin->pause == NULL) {
		alk_err_set(err, -ENOMEM, "admin_socket: out of memory");
		goto fail;
	}
	alk_io_set(admin->io, ALK_IO_READ);
	return admin;
fail:
	alk_admin_free(&admin);
	return NULL;
}

void alk_admin_set_users(struct alk_admin *admin, const uid_t *uids, size_t n)
{
	admin->n_users = n < ALK_ADMIN_USERS_MAX ? n : ALK_ADMIN_USERS_MAX;
	memcpy(admin->users, uids, admin->n_users * sizeof(*uids));
	alk_admin_socket_share(&admin->sock, n > 0);
}

int alk_admin_user_parse(const char *text, uid_t *uid, struct alk_err *err)
{
	const struct passwd *account;
	char shown[128];
	int64_t number;

	if (alk_text_int(text, &number) == 0 && number >= 0 && number < UINT32_MAX) {
		*uid = (uid_t)number;
		return 0;
	}
	account = getpwnam(text);
	if (account != NULL) {
		*uid = account->pw_uid;
		return 0;
	}
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return alk_err_set(err, -ENOENT, "there is no account %s", shown);
}

void alk_admin_pause(struct alk_admin *admin, bool paused)
{
	alk_io_set(admin->io, paused ? 0 : ALK_IO_READ);
}

void alk_admin_leave(struct alk_admin *admin)
{
	alk_timer_stop(admin->pause);
	alk_io_free(&admin->io);
	alk_admin_socket_leave(&admin->sock);
}

void alk_admin_free(struct alk_admin **adminp)
{
	struct alk_admin *admin = *adminp;

	*adminp = NULL;
	if (admin == NULL)
		return;
	while (admin->clients != NULL)
		admin_client_free(&admin->clients);
	alk_io_free(&admin->io);
	alk_timer_free(&admin->pause);
	alk_admin_socket_close(&admin->sock);
	alk_fd_close(&admin->spare);
	admin->magic = 0;
	free(admin);
}
