/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The plain transport: a link is the TCP socket itself. README.md has its options. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <alknet/alknet.h>

#define TCP_MAGIC 0x746370u
#define DIALING_MAGIC 0x74637064u
#define DEFAULT_PORT 22

struct tcp {
	uint32_t magic;
	struct alk_loop *loop;
	const struct alk_options *options;
	uint64_t timeout_ms;
};

struct tcp_dialing {
	uint32_t magic;
	struct tcp *tcp;
	struct alk_dial *dial;
	alk_link_fn *done;
	void *user;
};

static int tcp_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct tcp *tcp = calloc(1, sizeof(*tcp));

	if (tcp == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	tcp->magic = TCP_MAGIC;
	tcp->loop = env->loop;
	tcp->options = env->options;
	tcp->timeout_ms = alk_plugin_timeout(env);
	*state = tcp;
	return 0;
}

static void tcp_deinit(void **state)
{
	free(*state);
	*state = NULL;
}

static struct tcp *tcp_of(void *state)
{
	struct tcp *tcp = state;

	assert(tcp->magic == TCP_MAGIC);
	return tcp;
}

/* ---- accepting ---- */

static int tcp_listen(void *state, const char *address, const struct alk_acceptor *up,
		      struct alk_listener **out, struct alk_err *err)
{
	struct tcp *tcp = tcp_of(state);

	return alk_tcp_listen(tcp->loop, "tcp", address, tcp->options, up, out, err);
}

static void tcp_unlisten(void *state, struct alk_listener **listener)
{
	(void)state;
	alk_tcp_unlisten(listener);
}

static void tcp_pause(void *state, struct alk_listener *listener, bool paused)
{
	(void)state;
	alk_tcp_pause(listener, paused);
}

static int tcp_adopt(void *state, struct alk_listener *listener)
{
	alk_tcp_adopt(listener, tcp_of(state)->options);
	return 0;
}

static void tcp_describe(void *state, const struct alk_listener *listener, char *text, size_t size)
{
	(void)state;
	alk_tcp_describe(listener, text, size);
}

/* ---- dialing ---- */

static void dialing_free(struct tcp_dialing *dialing)
{
	alk_dial_cancel(&dialing->dial);
	dialing->magic = 0;
	free(dialing);
}

static void socket_keep_alive(const struct tcp *tcp, int fd)
{
	int idle = (int)((alk_options_int(tcp->options, "keepalive") + 999) / 1000);
	const int one = 1;

	if (idle == 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
}

static void dialing_on_done(void *user, int rc, int fd, const struct alk_err *err)
{
	struct tcp_dialing *dialing = user;
	alk_link_fn *done = dialing->done;
	struct alk_link link = ALK_LINK_NONE;
	struct alk_err why = *err;

	assert(dialing->magic == DIALING_MAGIC);
	user = dialing->user;
	if (rc == 0) {
		socket_keep_alive(dialing->tcp, fd);
		rc = alk_link_of_fd(&link, "tcp", &fd, &why);
	}
	dialing->dial = NULL;
	dialing_free(dialing);
	done(user, rc, &link, &why);
}

/* "HOST", "[V6]" and a bare IPv6 address have no port. */
static bool address_has_port(const char *address)
{
	const char *colon = strchr(address, ':');

	if (address[0] == '[')
		return strstr(address, "]:") != NULL;
	return colon != NULL && strchr(colon + 1, ':') == NULL;
}

static int address_parse(const char *address, char *host, size_t size, uint16_t *port,
			 struct alk_err *err)
{
	size_t len = strlen(address);

	if (address_has_port(address))
		return alk_addr_split(address, host, size, port, false, err);
	*port = DEFAULT_PORT;
	if (len > 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	if (len >= size)
		return alk_err_set(err, -EINVAL, "the host of \"%.64s...\" is too long", address);
	memcpy(host, address, len);
	host[len] = '\0';
	return 0;
}

static void *tcp_dial(void *state, const char *address, alk_link_fn *done, void *user,
		      struct alk_err *err)
{
	struct tcp *tcp = tcp_of(state);
	struct tcp_dialing *dialing;
	char host[256];
	uint16_t port;

	if (address_parse(address, host, sizeof(host), &port, err) < 0)
		return NULL;
	dialing = calloc(1, sizeof(*dialing));
	if (dialing == NULL) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	dialing->magic = DIALING_MAGIC;
	dialing->tcp = tcp;
	dialing->done = done;
	dialing->user = user;
	dialing->dial = alk_dial_tcp(tcp->loop, host, port, NULL, tcp->timeout_ms, dialing_on_done,
				     dialing, err);
	if (dialing->dial == NULL) {
		dialing_free(dialing);
		return NULL;
	}
	return dialing;
}

static void tcp_dial_cancel(void *state, void **dialing)
{
	(void)state;
	if (*dialing != NULL)
		dialing_free(*dialing);
	*dialing = NULL;
}

static const struct alk_option tcp_options[] = {
	ALK_TCP_OPTIONS,
	ALK_DIAL_OPTIONS,
	{.type = ALK_OPT_END},
};

static const struct alk_transport_ops tcp_ops = {
	.size = sizeof(tcp_ops),
	.listen = tcp_listen,
	.unlisten = tcp_unlisten,
	.pause = tcp_pause,
	.describe = tcp_describe,
	.check = alk_tcp_check,
	.dial = tcp_dial,
	.dial_cancel = tcp_dial_cancel,
	.adopt = tcp_adopt,
};

ALK_PLUGIN(.kind = ALK_PLUGIN_TRANSPORT, .name = "tcp", .version = "0.1", .options = tcp_options,
	   .init = tcp_init, .deinit = tcp_deinit, .ops.transport = &tcp_ops, );
