/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <libssh/server.h>
#include <alknet/dial.h>
#include <alknet/log.h>
#include <alknet/transport.h>
#include "board.h"
#include "client.h"
#include "knownhosts.h"
#include "loader.h"
#include "loop_private.h"
#include "proxy.h"
#include "ssh_hostkey.h"
#include "ssh_login.h"
#include "ssh_session.h"
#include "text.h"

/* Of a session's beginning: the login, and the first channel. */
#define ACKNOWLEDGE_TURNS 32

#define CLIENT_MAGIC 0x746e6c63u /* "clnt" */

struct alk_client {
	uint32_t magic;
	struct alk_loop *loop;
	struct alk_conf *conf;
	const struct alk_options *values;
	const struct alk_client_ops *ops;
	void *user;
	const struct alk_client_forward_ops *forwards; /* NULL: none are wanted */
	void *forwards_user;
	enum alk_client_state state;
	struct alk_login *login;
	char server[300], host[256], known_hosts[512], login_name[256];
	struct alk_hostkey hostkey;
	char host_key[ALK_HOSTKEY_SEEN_SIZE]; /* that was good last; its fingerprint */
	struct alk_loader *loader;
	const struct alk_transport_ops *transport;
	void *transport_state, *dialing;
	struct alk_ssh ssh;
	bool ssh_made, connect_begun;
	unsigned acknowledged;	    /* turns */
	struct alk_proxy_url proxy; /* to the server; the loop may be others' too */
	struct alk_link link;	    /* as the transport said; its fd until the library has it */
	enum alk_client_failure failure;
	struct alk_timer *deadline, *tick;
	uint64_t since_us;    /* when the deadline was started last */
	struct alk_task down; /* a failure before there is a session */
	int rc;
	struct alk_err err;
};

static struct alk_client *client_of(void *user)
{
	struct alk_client *c = user;

	assert(c->magic == CLIENT_MAGIC);
	return c;
}

const char *alk_client_state_str(enum alk_client_state state)
{
	static const char *const names[] = {
		[ALK_CLIENT_DOWN] = "down",
		[ALK_CLIENT_DIALING] = "dialing",
		[ALK_CLIENT_HANDSHAKE] = "handshake",
		[ALK_CLIENT_AUTH] = "authentication",
		[ALK_CLIENT_UP] = "up",
	};

	return state <= ALK_CLIENT_UP ? names[state] : "?";
}

/* ---- going down ------------------------------------------------------------------------------ */

static enum alk_client_failure client_failed(const struct alk_client *c)
{
	if (c->failure == ALK_CLIENT_FAILED_HOSTKEY)
		return c->failure;
	if (c->state == ALK_CLIENT_UP)
		return ALK_CLIENT_FAILED_ENDED;
	if (c->rc == -ETIMEDOUT)
		return ALK_CLIENT_FAILED_TIMEOUT;
	return c->state == ALK_CLIENT_AUTH ? ALK_CLIENT_FAILED_AUTH : ALK_CLIENT_FAILED_DIAL;
}

static void client_end_ssh(struct alk_client *c)
{
	if (!c->ssh_made)
		return;
	alk_ssh_deinit(&c->ssh);
	alk_link_close(&c->link);
	c->ssh_made = false;
}

static void client_down(struct alk_client *c)
{
	c->failure = client_failed(c);
	c->state = ALK_CLIENT_DOWN;
	alk_timer_stop(c->deadline);
	alk_timer_stop(c->tick);
	if (c->login)
		alk_login_end(c->login);
	client_end_ssh(c);
	if (c->forwards)
		c->forwards->down(c->forwards_user);
	c->ops->down(c->user, c->rc, &c->err);
}

static void on_down(void *user)
{
	client_down(client_of(user));
}

/* Fail with the sentence that is in c->err. */
static void client_fail(struct alk_client *c, int rc)
{
	c->rc = rc;
	if (c->ssh_made)
		alk_ssh_die(&c->ssh, rc, "%s", c->err.text);
	else
		alk_task_queue(c->loop, &c->down);
}

static void on_dead(void *user, int rc, const char *why)
{
	struct alk_client *c = client_of(user);

	if (!c->err.text[0]) {
		const char *text = why;

		c->rc = rc;
		if (c->state == ALK_CLIENT_HANDSHAKE)
			alk_err_set(&c->err, rc, "%s: the SSH handshake failed: %s", c->server,
				    text);
		else if (c->state == ALK_CLIENT_AUTH)
			alk_err_set(&c->err, rc,
				    "%s: the server closed the connection during authentication%s",
				    c->server, alk_login_hint(c->login));
		else
			alk_err_set(&c->err, rc, "%s: %s", c->server, text);
	}
	client_down(c);
}

static void on_deadline(void *user)
{
	struct alk_client *c = client_of(user);

	if (c->dialing)
		ALK_OP(c->transport, dial_cancel)(c->transport_state, &c->dialing);
	alk_err_set(&c->err, 0, "%s: no answer within the handshake timeout (%s)", c->server,
		    alk_client_state_str(c->state));
	client_fail(c, -ETIMEDOUT);
}

static void on_tick(void *user)
{
	struct alk_client *c = client_of(user);
	uint64_t every = (uint64_t)alk_options_int(c->values, "keepalive");

	/* Dead after three times the time at most: progress (alk_ssh_keepalive) is seen up to an
	 * eighth late. */
	if (c->state == ALK_CLIENT_UP && every > 0)
		alk_timer_start(c->tick, alk_ssh_keepalive(&c->ssh, every, 3 * every - every / 8));
}

/* ---- the turn -------------------------------------------------------------------------------- */

/* After the first ssh_connect: the library closes the fd from here on, unless it failed before it
 * looked at it. */
static void client_give_fd(struct alk_client *c, int rc)
{
	int fd = c->link.fd;

	c->connect_begun = true;
	if (rc == SSH_ERROR && ssh_get_fd(c->ssh.ssh) != fd &&
	    !(ssh_get_status(c->ssh.ssh) & (SSH_CLOSED | SSH_CLOSED_ERROR)))
		return;
	c->link.fd = -1;
	/* The library makes it blocking and inheritable. */
	if (c->ssh.fd == fd) {
		fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
}

static void client_start_deadline(struct alk_client *c)
{
	c->since_us = alk_board_now_us();
	alk_timer_start(c->deadline, (uint64_t)alk_options_int(c->values, "handshake_timeout"));
}

static int step_handshake(struct alk_client *c)
{
	char seen[ALK_HOSTKEY_SEEN_SIZE] = "", said[256];
	ssh_key key = NULL;
	const char *why;
	int rc;

	alk_ssh_enter(&c->ssh);
	rc = ssh_connect(c->ssh.ssh);
	alk_ssh_leave(&c->ssh);
	if (!c->connect_begun)
		client_give_fd(c, rc);
	if (rc == SSH_ERROR) {
		/* It may quote a server that nobody knows yet, to a terminal. */
		why = ssh_get_error(c->ssh.ssh);
		alk_text_escape(why, strlen(why), said, sizeof(said));
		alk_err_set(&c->err, 0, "%s: the SSH handshake failed: %s", c->server, said);
		client_fail(c, -EPROTO);
		return 0;
	}
	if (alk_ssh_attach(&c->ssh) < 0)
		return -ENOMEM;
	if (rc != SSH_OK)
		return 0;
	fcntl(c->ssh.fd, F_SETFL, O_RDWR | O_NONBLOCK);
	fcntl(c->ssh.fd, F_SETFD, FD_CLOEXEC);
	if (ssh_get_server_publickey(c->ssh.ssh, &key) != SSH_OK)
		return -EPROTO;
	rc = alk_hostkey_check(&c->hostkey, key, seen, &c->err);
	if (rc < 0)
		c->failure = ALK_CLIENT_FAILED_HOSTKEY;
	ssh_key_free(key);
	/* Who was asked may have thought about it for long. */
	if (rc == 1)
		client_start_deadline(c);
	if (rc >= 0)
		rc = alk_login_begin(c->login, &c->ssh, &c->err);
	if (rc < 0) {
		client_fail(c, rc);
		return 0;
	}
	memcpy(c->host_key, seen, sizeof(c->host_key));
	c->state = ALK_CLIENT_AUTH;
	c->ssh.lockstep = true;
	return 0;
}

static int step_auth(struct alk_client *c)
{
	int rc = alk_login_step(c->login, &c->err);

	if (rc == 1) {
		alk_login_end(c->login);
		c->state = ALK_CLIENT_UP;
		alk_ssh_up(&c->ssh);
		alk_timer_stop(c->deadline);
		alk_observe(ALK_H_HANDSHAKE, alk_board_now_us() - c->since_us);
		on_tick(c);
		c->ops->up(c->user);
		if (c->forwards && c->state == ALK_CLIENT_UP)
			c->forwards->up(c->forwards_user, c);
		return 0;
	}
	if (rc < 0 && c->err.text[0]) {
		client_fail(c, rc);
		return 0;
	}
	return rc;
}

/* The channel of a connection at a listener that the server has for us; NULL when it is nothing of
 * the kind. Takes `m` then. */
static struct alk_channel *client_forwarded(struct alk_client *c, ssh_message m,
					    struct alk_destination *to)
{
	const char *host, *originator;
	struct alk_channel *channel;

	if (ssh_message_type(m) != SSH_REQUEST_CHANNEL_OPEN ||
	    ssh_message_subtype(m) != SSH_CHANNEL_FORWARDED_TCPIP || !c->forwards)
		return NULL;
	host = ssh_message_channel_request_open_destination(m);
	originator = ssh_message_channel_request_open_originator(m);
	*to = (struct alk_destination){
		.port = (uint16_t)ssh_message_channel_request_open_destination_port(m),
		.originator_port = (uint16_t)ssh_message_channel_request_open_originator_port(m),
	};
	snprintf(to->host, sizeof(to->host), "%s", host ? host : "");
	snprintf(to->originator, sizeof(to->originator), "%s", originator ? originator : "");
	c->ssh.asked++;
	channel = alk_ssh_channel_asked(&c->ssh, m);
	return channel;
}

/* What the server asks of us: channels of forwards, all else is refused. Takes `m`. */
static void client_message(struct alk_client *c, ssh_message m)
{
	struct alk_destination to;
	struct alk_channel *channel = client_forwarded(c, m, &to);

	if (channel) {
		c->forwards->opened(c->forwards_user, channel, &to);
		return;
	}
	alk_ssh_enter(&c->ssh);
	ssh_message_reply_default(m);
	alk_ssh_leave(&c->ssh);
	ssh_message_free(m);
}

/* What comes first is acknowledged at once. sshd has Nagle's algorithm on, and what it sends after
 * the login (its host keys) we do not answer: its next word, that a channel is open, would wait 40
 * ms for an acknowledgement that the kernel holds back. On a link that is no TCP this does
 * nothing. */
static void client_acknowledge(struct alk_client *c)
{
	int one = 1;

	if (c->acknowledged == ACKNOWLEDGE_TURNS)
		return;
	c->acknowledged++;
	(void)setsockopt(c->ssh.fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
}

static int on_step(void *user)
{
	struct alk_client *c = client_of(user);
	ssh_message m;
	int rc = 0;

	client_acknowledge(c);
	if (c->state == ALK_CLIENT_HANDSHAKE)
		rc = step_handshake(c);
	if (rc == 0 && c->state == ALK_CLIENT_AUTH && !c->ssh.dying)
		rc = step_auth(c);
	if (rc == 0 && c->state == ALK_CLIENT_UP && !c->ssh.dying)
		alk_ssh_global_step(&c->ssh);
	while (rc == 0 && c->state == ALK_CLIENT_UP && !c->ssh.dying) {
		alk_ssh_enter(&c->ssh);
		m = ssh_message_get(c->ssh.ssh);
		alk_ssh_leave(&c->ssh);
		if (!m)
			break;
		client_message(c, m);
	}
	return rc;
}

static const struct alk_ssh_ops client_ssh_ops = {.step = on_step, .dead = on_dead};

/* ---- going up -------------------------------------------------------------------------------- */

static int client_options(struct alk_client *c, int fd)
{
	static const char kex[] =
		"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,"
		"ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group16-sha512,"
		"diffie-hellman-group14-sha256";
	static const char ciphers[] = "aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,"
				      "aes128-gcm@openssh.com,aes256-ctr,aes128-ctr";
	char hostkeys[ALK_HOSTKEY_ALGORITHMS_SIZE];
	ssh_session ssh = c->ssh.ssh;
	int rc = alk_hostkey_algorithms(&c->hostkey, hostkeys, sizeof(hostkeys), &c->err);

	if (rc < 0)
		return rc;
	/* The library keeps 16 bits of it. */
	if (fd > UINT16_MAX)
		return alk_err_set(&c->err, -EMFILE, "too many open files for another session");
	/* No files of the library's own, and no look for the home of a user who has none. */
	if (ssh_options_set(ssh, SSH_OPTIONS_SSH_DIR, "/dev/null") < 0 ||
	    ssh_options_set(ssh, SSH_OPTIONS_FD, &fd) < 0 ||
	    ssh_options_set(ssh, SSH_OPTIONS_USER, c->login_name) < 0 ||
	    ssh_options_set(ssh, SSH_OPTIONS_KEY_EXCHANGE, kex) < 0 ||
	    ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_C_S, ciphers) < 0 ||
	    ssh_options_set(ssh, SSH_OPTIONS_CIPHERS_S_C, ciphers) < 0 ||
	    ssh_options_set(ssh, SSH_OPTIONS_HOSTKEYS, hostkeys) < 0 ||
	    ssh_options_set(ssh, SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES, ALK_LOGIN_ALGORITHMS) < 0)
		return alk_err_set(&c->err, -EINVAL, "libssh: %s", ssh_get_error(ssh));
	return 0;
}

static void on_link(void *user, int rc, struct alk_link *link, const struct alk_err *err)
{
	struct alk_client *c = client_of(user);

	c->dialing = NULL;
	if (rc < 0) {
		alk_err_set(&c->err, rc, "cannot connect to %s: %s", c->server, err->text);
		client_fail(c, rc);
		return;
	}
	rc = alk_ssh_init(&c->ssh, c->loop, &client_ssh_ops, c, &c->err);
	if (rc < 0) {
		alk_link_close(link);
		client_fail(c, rc);
		return;
	}
	c->link = *link;
	c->ssh_made = true;
	c->connect_begun = false;
	c->acknowledged = 0;
	c->ssh.max_channels = (unsigned)alk_options_int(c->values, "max_channels");
	c->state = ALK_CLIENT_HANDSHAKE;
	rc = client_options(c, c->link.fd);
	if (rc == 0)
		rc = alk_ssh_start(&c->ssh, c->link.fd, &c->err);
	if (rc < 0) {
		client_fail(c, rc);
		return;
	}
	alk_ssh_wrote(&c->ssh);
}

/* Whom to dial, and under which name its host key is known. */
static void client_set_server(struct alk_client *c)
{
	const char *peer = alk_options_str(c->values, "peer");
	int rc;

	c->hostkey.port = 22;
	snprintf(c->server, sizeof(c->server), "%s",
		 peer ? peer : alk_options_str(c->values, "server"));
	if (peer || c->server[0] == '/') {
		/* The transport's own form: nothing of it is a port. */
		snprintf(c->host, sizeof(c->host), "%.255s", c->server);
		return;
	}
	rc = alk_addr_split(c->server, c->host, sizeof(c->host), &c->hostkey.port, false, NULL);
	if (rc < 0) {
		/* No port: a name, an IPv4 address, or an IPv6 address with or without brackets. */
		size_t n = strlen(c->server);
		bool brackets = c->server[0] == '[' && c->server[n - 1] == ']';

		snprintf(c->host, sizeof(c->host), "%.*s", (int)(brackets ? n - 2 : n),
			 c->server + brackets);
		c->hostkey.port = 22;
		snprintf(c->server, sizeof(c->server), strchr(c->host, ':') ? "[%s]:22" : "%s:22",
			 c->host);
	}
}

static int client_load(struct alk_client *c, struct alk_err *err)
{
	const char *transport = alk_options_str(c->values, "transport");
	const char *user = alk_options_str(c->values, "user");
	const char *path = alk_options_str(c->values, "known_hosts");
	const struct passwd *pw = user ? NULL : getpwuid(getuid());
	struct alk_loaded *loaded;
	int rc;

	snprintf(c->login_name, sizeof(c->login_name), "%s",
		 user ? user
		 : pw ? pw->pw_name
		      : "alknet");
	client_set_server(c);
	if (path)
		snprintf(c->known_hosts, sizeof(c->known_hosts), "%s", path);
	else if ((rc = alk_knownhosts_default(c->known_hosts, sizeof(c->known_hosts), err)) < 0)
		return rc;
	path = alk_options_str(c->values, "proxy");
	rc = alk_proxy_url_parse(path ? path : "none", &c->proxy, err);
	if (rc < 0)
		return alk_err_prefix(err, rc, "proxy");
	c->login = alk_login_new(c->loop, c->conf, c->server, c->login_name, err);
	if (!c->login)
		return -EINVAL;
	c->loader = alk_loader_new(c->loop, ALK_ROLE_CLIENT,
				   alk_options_str(c->values, "plugin_dir"), c->conf, err);
	loaded = c->loader ? alk_loader_get(c->loader, ALK_PLUGIN_TRANSPORT, transport, err) : NULL;
	if (!loaded || alk_conf_passed(c->conf, err) < 0)
		return -EINVAL;
	c->transport = alk_loaded_plugin(loaded)->ops.transport;
	c->transport_state = alk_loaded_state(loaded);
	if (!ALK_OP(c->transport, dial))
		return alk_err_set(err, -EINVAL, "transport %s cannot connect", transport);
	return 0;
}

struct alk_client *alk_client_new(struct alk_loop *loop, struct alk_conf *conf,
				  const struct alk_client_ops *ops, void *user, struct alk_err *err)
{
	struct alk_client *c = calloc(1, sizeof(*c));

	if (!c) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	c->magic = CLIENT_MAGIC;
	c->loop = loop;
	c->conf = conf;
	c->values = alk_conf_values(conf);
	c->ops = ops;
	c->user = user;
	c->hostkey.values = c->values;
	c->hostkey.server = c->server;
	c->hostkey.no_terminal = alk_loop_is_guest(loop);
	c->hostkey.host = c->host;
	c->hostkey.known_hosts = c->known_hosts;
	c->hostkey.before = c->host_key;
	c->down = (struct alk_task){.fn = on_down, .user = c};
	c->link = ALK_LINK_NONE;
	c->deadline = alk_timer_new(loop, "client handshake", on_deadline, c);
	c->tick = alk_timer_new(loop, "client keepalive", on_tick, c);
	if (!c->deadline || !c->tick)
		alk_err_set(err, -ENOMEM, "out of memory");
	if (!c->deadline || !c->tick || alk_ssh_check_library(err) < 0 || client_load(c, err) < 0)
		alk_client_free(&c);
	return c;
}

void alk_client_free(struct alk_client **client)
{
	struct alk_client *c = *client;

	if (!c)
		return;
	alk_task_cancel(c->loop, &c->down);
	if (c->dialing)
		ALK_OP(c->transport, dial_cancel)(c->transport_state, &c->dialing);
	client_end_ssh(c);
	if (c->forwards)
		c->forwards->down(c->forwards_user);
	alk_timer_free(&c->deadline);
	alk_timer_free(&c->tick);
	alk_loader_free(&c->loader);
	alk_login_free(&c->login);
	explicit_bzero(&c->proxy, sizeof(c->proxy));
	c->magic = 0;
	free(c);
	*client = NULL;
}

int alk_client_start(struct alk_client *c, struct alk_err *err)
{
	if (c->state != ALK_CLIENT_DOWN)
		return -EALREADY;
	c->err.text[0] = '\0';
	c->rc = 0;
	c->failure = ALK_CLIENT_FAILED_NOT;
	alk_proxy_lend(c->loop, &c->proxy);
	c->dialing = ALK_OP(c->transport, dial)(c->transport_state, c->server, on_link, c, err);
	alk_proxy_lend(c->loop, NULL);
	if (!c->dialing)
		return -EINVAL;
	c->state = ALK_CLIENT_DIALING;
	client_start_deadline(c);
	return 0;
}

void alk_client_stop(struct alk_client *c)
{
	if (c->state == ALK_CLIENT_DOWN)
		return;
	if (c->dialing)
		ALK_OP(c->transport, dial_cancel)(c->transport_state, &c->dialing);
	alk_timer_stop(c->deadline);
	if (c->ssh_made && c->state == ALK_CLIENT_UP)
		alk_ssh_finish(&c->ssh, "stopped");
	else
		client_fail(c, 0);
}

void alk_client_cut(struct alk_client *c, const char *why)
{
	if (c->state == ALK_CLIENT_DOWN)
		return;
	if (c->dialing)
		ALK_OP(c->transport, dial_cancel)(c->transport_state, &c->dialing);
	alk_timer_stop(c->deadline);
	alk_err_set(&c->err, -ETIMEDOUT, "%s: %s", c->server, why);
	client_fail(c, -ETIMEDOUT);
}

void alk_client_missed(struct alk_client *c, uint64_t ms)
{
	if (c->state != ALK_CLIENT_UP)
		return;
	alk_ssh_missed(&c->ssh, ms);
	on_tick(c);
}

bool alk_client_ready(const struct alk_client *c)
{
	return c->state == ALK_CLIENT_UP && !c->ssh.dying && !c->ssh.finishing;
}

unsigned alk_client_channels(const struct alk_client *c)
{
	return c->ssh_made ? c->ssh.n_channels : 0;
}

enum alk_client_state alk_client_get_state(const struct alk_client *c)
{
	return c->state;
}

int alk_client_lend(struct alk_client *c, int epoll)
{
	return alk_client_ready(c) && c->ssh.io ? alk_io_lend(c->ssh.io, epoll) : -ENOTSUP;
}

void alk_client_recall(struct alk_client *c)
{
	if (c->ssh_made && c->ssh.io)
		alk_io_recall(c->ssh.io);
}

bool alk_client_lent(const struct alk_client *c)
{
	return c->ssh_made && c->ssh.io && alk_io_lent(c->ssh.io);
}

bool alk_client_path(const struct alk_client *c, struct alk_link_path *path)
{
	bool (*op)(void *, struct alk_link_path *) = ALK_OP(c->transport, path);

	*path = (struct alk_link_path){.size = sizeof(*path)};
	return c->ssh_made && op && op(c->transport_state, path);
}

const char *alk_client_server(const struct alk_client *c)
{
	return c->server;
}

enum alk_client_failure alk_client_failure(const struct alk_client *c)
{
	return c->failure;
}

const struct alk_link *alk_client_link(const struct alk_client *c)
{
	return &c->link;
}

const char *alk_client_host_key(const struct alk_client *c)
{
	return c->host_key;
}

struct alk_channel *alk_client_open(struct alk_client *c, const struct alk_destination *to,
				    const struct alk_channel_ops *ops, void *user,
				    struct alk_err *err)
{
	struct alk_channel *channel;

	if (!alk_client_ready(c)) {
		alk_err_set(err, -ENOTCONN, "the session is not up");
		return NULL;
	}
	channel = alk_ssh_channel_new(&c->ssh, ops, user);
	if (!channel) {
		alk_err_set(err, -EMFILE, "too many channels");
		return NULL;
	}
	if (alk_ssh_channel_ask(channel, to) < 0) {
		alk_channel_set_ops(channel, NULL, NULL);
		alk_channel_close(channel);
		alk_err_set(err, -ENOMEM, "out of memory for a channel");
		return NULL;
	}
	return channel;
}

struct alk_ssh_listen *alk_client_listen(struct alk_client *c, const char *host, uint16_t port,
					 alk_client_listened *done, void *user)
{
	if (c->state != ALK_CLIENT_UP || c->ssh.dying || c->ssh.finishing)
		return NULL;
	return alk_ssh_listen(&c->ssh, host, port, done, user);
}

void alk_client_listen_cancel(struct alk_ssh_listen **listen)
{
	alk_ssh_listen_cancel(listen);
}

void alk_client_unlisten(struct alk_client *c, const char *host, uint16_t port)
{
	if (c->state == ALK_CLIENT_UP && !c->ssh.dying && !c->ssh.finishing &&
	    alk_ssh_unlisten(&c->ssh, host, port) < 0)
		alk_ssh_die(&c->ssh, -ENOMEM, "out of memory");
}

void alk_client_set_forwards(struct alk_client *c, const struct alk_client_forward_ops *ops,
			     void *user)
{
	c->forwards = ops;
	c->forwards_user = user;
	if (c->state == ALK_CLIENT_UP)
		ops->up(user, c);
}
