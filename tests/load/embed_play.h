/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_TESTS_EMBED_PLAY_H
#define ALK_TESTS_EMBED_PLAY_H

/* A server that gives back what comes to alknet-echo:7, and a client of it, both in the test: with
 * nothing but the library, on a loop of the test's own between begin() and end(). Included after
 * <cmocka.h>. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <alknet/alknet.h>
#include <ev.h>

#include "../unit/keygen.h"

static struct ev_loop *ev;
static struct alk_embed *embed;
static struct alk_embed_server *server;
static struct alk_embed_client *client;
static int ready, closed, status, up, down, down_rc;
static struct alk_err down_err;
static struct {
	char bytes[256];
	size_t n;
	int opened, refused, eof, closed;
	enum alk_open_failure why;
} got;

static inline int setup(void **state)
{
	if (keygen_setup(state) < 0)
		return -1;
	keygen_run("for k in host user stranger; do ssh-keygen -q -t ed25519 -N '' -f $k; done");
	return 0;
}

/* Turn the program's loop until it is so; the alarm ends a test that hangs. */
static inline void turn_until(const int *what, int value)
{
	while (*what != value)
		ev_run(ev, EVRUN_ONCE);
}

static inline size_t on_data(void *user, struct alk_channel *channel, const uint8_t *bytes,
			     size_t n)
{
	(void)user, (void)channel;
	assert_true(got.n + n < sizeof(got.bytes));
	memcpy(got.bytes + got.n, bytes, n);
	got.n += n;
	return n;
}

static inline void on_opened(void *user, struct alk_channel *channel)
{
	(void)user;
	got.opened++;
	assert_int_equal(alk_channel_write(channel, "ping", 4), 4);
	alk_channel_eof(channel);
}

static inline void on_refused(void *user, struct alk_channel *channel, enum alk_open_failure why,
			      const char *text)
{
	(void)user, (void)channel, (void)text;
	got.refused++;
	got.why = why;
}

static inline void on_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	got.eof++;
	alk_channel_close(channel);
}

static inline void on_close(void *user, struct alk_channel *channel)
{
	(void)user, (void)channel;
	got.closed++;
}

static const struct alk_channel_ops stream_ops = {
	.opened = on_opened,
	.refused = on_refused,
	.data = on_data,
	.eof = on_eof,
	.close = on_close,
};

/* The server's side of a stream: gives back what comes. */
static inline size_t on_echo(void *user, struct alk_channel *channel, const uint8_t *bytes,
			     size_t n)
{
	ssize_t taken = alk_channel_write(channel, bytes, n);

	(void)user;
	return taken < 0 ? n : (size_t)taken;
}

static inline void on_echo_drain(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_resume(channel);
}

static inline void on_echo_eof(void *user, struct alk_channel *channel)
{
	(void)user;
	alk_channel_eof(channel);
}

static inline bool on_serve(void *user, struct alk_channel *channel,
			    const struct alk_destination *to)
{
	static const struct alk_channel_ops ops = {.data = on_echo,
						   .drain = on_echo_drain,
						   .eof = on_echo_eof};

	assert_string_equal(alk_channel_identity(channel)->user, "tester");
	if (strcmp(to->host, "alknet-echo") != 0 || to->port != 7)
		return false;
	alk_channel_set_ops(channel, &ops, user);
	assert_int_equal(alk_channel_accept(channel), 0);
	return true;
}

static inline void on_ready(void *user, struct alk_embed_server *s)
{
	(void)user;
	assert_ptr_equal(s, server);
	ready++;
}

static inline void on_server_closed(void *user, struct alk_embed_server *s, int how)
{
	(void)user, (void)s;
	status = how;
	closed++;
}

static inline void on_up(void *user, struct alk_embed_client *c, bool first)
{
	(void)user, (void)c;
	assert_int_equal(first, up == 0);
	up++;
}

static inline void on_client_closed(void *user, struct alk_embed_client *c, int rc,
				    const struct alk_err *err)
{
	(void)user, (void)c;
	down_rc = rc;
	down_err = *err;
	down++;
}

static const struct alk_embed_server_ops server_ops = {sizeof(server_ops), on_ready, on_serve,
						       on_server_closed};
static const struct alk_embed_client_ops client_ops = {.size = sizeof(client_ops),
						       .ready = on_up,
						       .closed = on_client_closed};

static inline struct alk_embed_server *server_make(struct alk_err *err)
{
	const struct alk_setting settings[] = {{"key", keygen_path("host")},
					       {"authorized_keys", keygen_path("user.pub")},
					       {0}};

	return alk_embed_server_new(embed, "return { listen = '127.0.0.1:0', log_level = 'error' }",
				    settings, &server_ops, NULL, err);
}

static inline struct alk_embed_client *client_make(const char *identity, const char *accept,
						   struct alk_err *err)
{
	const struct alk_setting settings[] = {{"server", alk_embed_server_address(server, 0)},
					       {"user", "tester"},
					       {"identity", keygen_path(identity)},
					       {"known_hosts", keygen_path("known")},
					       {"accept_new_host_key", accept},
					       {"log_level", "error"},
					       {0}};

	return alk_embed_client_new(embed, NULL, settings, &client_ops, NULL, err);
}

static inline void begin(void **state)
{
	struct alk_err err;

	(void)state;
	alarm(60);
	ready = closed = status = up = down = down_rc = 0;
	memset(&got, 0, sizeof(got));
	keygen_run("rm -f known");
	ev = ev_loop_new(EVFLAG_AUTO);
	embed = alk_embed_new(ev, &err);
	assert_non_null(embed);
	server = server_make(&err);
	if (server == NULL)
		fail_msg("%s", err.text);
	turn_until(&ready, 1);
}

static inline void end(void)
{
	alk_embed_client_free(&client);
	alk_embed_server_free(&server);
	alk_embed_free(&embed);
	assert_null(embed);
	/* Nothing of the library's is left to wait for. */
	assert_false(ev_run(ev, 0));
	ev_loop_destroy(ev);
	alarm(0);
}

static inline void connected(void)
{
	struct alk_err err;

	client = client_make("user", "true", &err);
	if (client == NULL)
		fail_msg("%s", err.text);
	turn_until(&up, 1);
}

static inline void stream(const char *host, uint16_t port)
{
	memset(&got, 0, sizeof(got));
	assert_non_null(alk_embed_client_open(client, host, port, &stream_ops, NULL, NULL));
	turn_until(&got.closed, 1);
}

struct answer {
	int count;
	char json[4096];
	struct alk_err err;
};

static inline void on_done(void *user, const char *json, const struct alk_err *err)
{
	struct answer *answer = user;

	answer->count++;
	answer->json[0] = '\0';
	if (json != NULL)
		snprintf(answer->json, sizeof(answer->json), "%s", json);
	else
		answer->err = *err;
	assert_true((json == NULL) == (err != NULL));
}

static inline void request(const char *method, const char *params, struct answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	assert_int_equal(alk_embed_server_request(server, method, params, on_done, answer), 0);
	assert_int_equal(answer->count, 0);
	turn_until(&answer->count, 1);
}

#endif
