/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_ADMIN_PRIVATE_H
#define ALK_ADMIN_PRIVATE_H

/* admin.c has the socket and who may connect, admin_client.c a client's lines, admin_call.c the
 * calls that its lines are and those that the program itself makes. */

#include <sys/socket.h>
#include "admin.h"
#include "admin_socket.h"

struct admin_client;

struct alk_admin_call {
	uint32_t magic;
	struct admin_client *client; /* NULL: it has gone */
	struct alk_admin_call *next, **prev;
	json_t *id;						 /* NULL: a notification */
	void (*closed)(void *user, struct alk_admin_call *call); /* of a stream */
	void *user;
	alk_admin_local_fn *answer; /* NULL: it came over the socket */
	void *answer_user;
};

struct admin_client {
	uint32_t magic;
	struct alk_admin *admin;
	struct admin_client *next, **prev;
	int fd;
	struct alk_io *io;
	struct alk_task end, more;
	struct ucred peer;
	bool ended;   /* `end` is queued: nothing more is read or written */
	bool eof;     /* it sends no more; end when all is answered and written */
	bool refused; /* what it sends is not looked at any more; the same */
	struct alk_admin_call *calls;
	unsigned ncalls, nstreams;
	char *in;
	size_t in_len, in_size, scanned;
	char *out;
	size_t out_off, out_len, out_size;
};

struct alk_admin {
	uint32_t magic;
	struct alk_loop *loop;
	const struct alk_admin_command *commands;
	void *user;
	struct alk_admin_socket sock;
	struct alk_io *io;
	struct alk_timer *pause;
	int spare; /* given up to accept when there is no other descriptor left */
	struct admin_client *clients;
	unsigned nclients;
	uint64_t refused_logged;
	uid_t users[ALK_ADMIN_USERS_MAX];
	size_t n_users;
};

/* Takes the fd when it gives true; false: there is no memory. */
bool admin_client_new(struct alk_admin *admin, int fd, const struct ucred *peer);
/* Its streams are told; calls that wait are answered to nobody. */
void admin_client_free(struct admin_client **clientp);
/* Wait for what may come now. */
void admin_client_watch(struct admin_client *c);
void admin_client_write(struct admin_client *c, json_t *message);
/* The same by hand: room for a line of `need` bytes and its end, or NULL, and then that so many are
 * there. A client that leaves more than 1 MiB unread is dropped; one long answer is no reason. */
char *admin_client_out(struct admin_client *c, size_t need);
void admin_client_wrote(struct admin_client *c, size_t n);
void admin_client_error(struct admin_client *c, json_t *id, int code, const char *text);
/* NULL: out of memory. */
struct alk_admin_call *admin_call_new(struct admin_client *c, json_t *id);
void admin_call_free(struct alk_admin_call **callp);
/* A descriptor is free again. */
void admin_spare_refill(struct alk_admin *admin);

#endif
