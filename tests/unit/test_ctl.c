/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl.h"

#define FLAG_FD 1u

/* What one end heard. */
struct end {
	struct alk_loop *loop;
	struct alk_ctl *ctl;
	unsigned messages, fds, lost_fds, wanted;
	json_int_t last;
	int last_fd;
	bool closed, free_on_message;
	int rc;
};

struct bench {
	struct alk_loop *loop;
	struct end a, b;
	int raw; /* the far end, where a test writes it by hand */
};

static void on_message(void *user, struct alk_ctl *ctl, json_t *message, int fd)
{
	struct end *end = user;

	assert_ptr_equal(ctl, end->ctl);
	end->messages++;
	end->last = json_integer_value(json_object_get(message, "n"));
	if (json_is_true(json_object_get(message, "fd"))) {
		if (fd < 0)
			end->lost_fds++;
		else
			end->fds++;
	} else {
		assert_int_equal(fd, -1);
	}
	if (json_is_true(json_object_get(message, "keep")))
		end->last_fd = fd;
	else
		alk_fd_close(&fd);
	if (end->free_on_message)
		alk_ctl_free(&end->ctl);
	if (end->messages == end->wanted)
		alk_loop_stop(end->loop);
}

static void on_closed(void *user, struct alk_ctl *ctl, int rc)
{
	struct end *end = user;

	assert_ptr_equal(ctl, end->ctl);
	assert_false(end->closed);
	end->closed = true;
	end->rc = rc;
	alk_loop_stop(end->loop);
}

static const struct alk_ctl_ops ops = {.message = on_message, .closed = on_closed};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	int fd[2];

	assert_non_null(b);
	b->loop = alk_loop_new(NULL);
	assert_non_null(b->loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	b->a = (struct end){.loop = b->loop, .last_fd = -1};
	b->b = b->a;
	b->a.ctl = alk_ctl_new(b->loop, &fd[0], &ops, &b->a, NULL);
	assert_non_null(b->a.ctl);
	assert_int_equal(fd[0], -1);
	b->raw = fd[1];
	*state = b;
	return 0;
}

/* Both ends are ours. */
static int setup_pair(void **state)
{
	struct bench *b;

	if (setup(state) != 0)
		return -1;
	b = *state;
	b->b.ctl = alk_ctl_new(b->loop, &b->raw, &ops, &b->b, NULL);
	return b->b.ctl != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	alk_ctl_free(&b->a.ctl);
	alk_ctl_free(&b->b.ctl);
	alk_fd_close(&b->raw);
	alk_loop_free(&b->loop);
	free(b);
	return 0;
}

static json_t *numbered(int n)
{
	return json_pack("{s:s, s:i}", "op", "test", "n", n);
}

static void raw_frame(struct bench *b, uint32_t len, uint32_t flags, const char *text, int fd)
{
	uint32_t header[2] = {len, flags};
	struct iovec iov[2] = {{header, sizeof(header)}, {(void *)(uintptr_t)text, strlen(text)}};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.room;
		msg.msg_controllen = sizeof(control.room);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	assert_int_equal(sendmsg(b->raw, &msg, MSG_NOSIGNAL),
			 (ssize_t)(sizeof(header) + strlen(text)));
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Messages come whole, in order, each with its own fd. */
static void test_order(void **state)
{
	struct bench *b = *state;
	int before = open_fds();

	for (int i = 1; i <= 500; i++) {
		json_t *message = numbered(i);

		if (i % 3 == 0) {
			int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

			json_object_set_new(message, "fd", json_true());
			assert_int_equal(alk_ctl_send(b->a.ctl, message, &fd), 0);
			assert_int_equal(fd, -1);
		} else {
			assert_int_equal(alk_ctl_send(b->a.ctl, message, NULL), 0);
		}
	}
	b->b.wanted = 500;
	alk_loop_run(b->loop);
	assert_int_equal(b->b.messages, 500);
	assert_int_equal(b->b.last, 500);
	assert_int_equal(b->b.fds, 500 / 3);
	assert_int_equal(b->b.lost_fds, 0);
	assert_int_equal(open_fds(), before);
	assert_int_equal(alk_ctl_pending(b->a.ctl), 0);
}

/* The fd that arrives is the one that was sent, and is close-on-exec. */
static void test_fd(void **state)
{
	struct bench *b = *state;
	json_t *message = numbered(1);
	int pipefd[2];
	char c = 0;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	json_object_set_new(message, "fd", json_true());
	json_object_set_new(message, "keep", json_true());
	assert_int_equal(alk_ctl_send(b->a.ctl, message, &pipefd[1]), 0);
	b->b.wanted = 1;
	alk_loop_run(b->loop);
	assert_true(b->b.last_fd >= 0);
	assert_int_equal(fcntl(b->b.last_fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(b->b.last_fd, "x", 1), 1);
	assert_int_equal(read(pipefd[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	close(b->b.last_fd);
	close(pipefd[0]);
}

/* A frame of megabytes goes through a socket buffer of kilobytes. */
static void test_large(void **state)
{
	struct bench *b = *state;
	size_t len = 9 << 20;
	char *text = malloc(len + 1);
	json_t *message = numbered(7);

	assert_non_null(text);
	memset(text, 'k', len);
	text[len] = '\0';
	json_object_set_new(message, "conf", json_string(text));
	free(text);
	assert_int_equal(alk_ctl_send(b->a.ctl, message, NULL), 0);
	assert_true(alk_ctl_pending(b->a.ctl) > (8 << 20));
	assert_int_equal(alk_ctl_send(b->a.ctl, numbered(8), NULL), 0);
	b->b.wanted = 2;
	alk_loop_run(b->loop);
	assert_int_equal(b->b.last, 8);
	assert_int_equal(alk_ctl_pending(b->a.ctl), 0);
}

static void test_bounds(void **state)
{
	struct bench *b = *state;
	size_t len = 15 << 20;
	char *text = malloc(17 << 20);
	json_t *message;
	int rc = 0, sent = 0;

	assert_non_null(text);
	memset(text, 'k', 17 << 20);
	text[(17 << 20) - 1] = '\0';
	message = json_pack("{s:s, s:s}", "op", "test", "text", text);
	assert_int_equal(alk_ctl_send(b->a.ctl, message, NULL), -EMSGSIZE);
	text[len] = '\0';
	while (rc == 0 && sent < 10) {
		message = json_pack("{s:s, s:s}", "op", "test", "text", text);
		rc = alk_ctl_send(b->a.ctl, message, NULL);
		sent += rc == 0;
	}
	free(text);
	assert_int_equal(rc, -ENOBUFS);
	assert_int_equal(sent, 4);
}

/* The other end's last words are heard, then the end, once. */
static void test_close(void **state)
{
	struct bench *b = *state;

	assert_int_equal(alk_ctl_send(b->b.ctl, numbered(41), NULL), 0);
	assert_int_equal(alk_ctl_send(b->b.ctl, numbered(42), NULL), 0);
	alk_ctl_free(&b->b.ctl);
	assert_null(b->b.ctl);
	assert_int_equal(alk_ctl_send(b->a.ctl, numbered(1), NULL), -EPIPE);
	alk_loop_run(b->loop);
	assert_true(b->a.closed);
	assert_int_equal(b->a.rc, 0);
	assert_int_equal(b->a.last, 42);
	assert_int_equal(alk_ctl_send(b->a.ctl, numbered(1), NULL), -EPIPE);
}

static void test_free_in_message(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 3; i++)
		assert_int_equal(alk_ctl_send(b->a.ctl, numbered(i), NULL), 0);
	b->b.free_on_message = true;
	alk_loop_run(b->loop); /* until `a` sees the end */
	assert_int_equal(b->b.messages, 1);
	assert_true(b->a.closed);
}

static void on_link(void *user, struct alk_ctl *ctl, uint64_t number, struct alk_link *link)
{
	struct end *end = user;

	assert_ptr_equal(ctl, end->ctl);
	end->messages++;
	end->last = (json_int_t)number;
	end->fds += link->fd >= 0;
	assert_string_equal(link->transport, "tls");
	assert_string_equal(link->remote_addr, "2001:db8::1");
	assert_int_equal(link->remote_port, 65535);
	assert_string_equal(link->local_addr, "192.0.2.1");
	assert_int_equal(link->local_port, 443);
	assert_string_equal(link->alpn, "");
	assert_int_equal(strlen(link->peer_id), sizeof(link->peer_id) - 1);
	alk_link_close(link);
	if (end->messages == end->wanted)
		alk_loop_stop(end->loop);
}

/* A link comes over whole, between other messages, with its fd; texts end where they have to. */
static void test_link(void **state)
{
	static const struct alk_ctl_ops link_ops = {.message = on_message,
						    .link = on_link,
						    .closed = on_closed};
	struct bench *b = *state;
	struct alk_link link = {.remote_port = 65535, .local_port = 443, .transport = "tls"};

	b->b.ctl = alk_ctl_new(b->loop, &b->raw, &link_ops, &b->b, NULL);
	assert_non_null(b->b.ctl);
	strcpy(link.remote_addr, "2001:db8::1");
	strcpy(link.local_addr, "192.0.2.1");
	memset(link.peer_id, 'x', sizeof(link.peer_id));
	b->b.wanted = 200;
	for (int i = 1; i <= 100; i++) {
		link.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_true(link.fd >= 0);
		assert_int_equal(alk_ctl_send_link(b->a.ctl, (uint64_t)i << 32, &link), 0);
		assert_int_equal(link.fd, -1);
		assert_int_equal(alk_ctl_send(b->a.ctl, numbered(i), NULL), 0);
	}
	alk_loop_run(b->loop);
	assert_int_equal(b->b.messages, 200);
	assert_int_equal(b->b.fds, 100);
	assert_int_equal(b->b.last, 100);
	/* Nobody expects one at the other end: that is no stream of ours. The fd is closed all the
	 * same. */
	link.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(alk_ctl_send_link(b->b.ctl, 1, &link), 0);
	alk_loop_run(b->loop);
	assert_true(b->a.closed);
	assert_int_equal(b->a.rc, -EPROTO);
	link.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(alk_ctl_send_link(b->a.ctl, 1, &link), -EPIPE);
	assert_int_equal(link.fd, -1);
}

static void take_link(void *user, struct alk_ctl *ctl, uint64_t number, struct alk_link *link)
{
	struct end *end = user;
	char c = 0;

	(void)ctl;
	end->messages++;
	assert_int_equal(number, end->messages); /* in order */
	if (link->fd >= 0) {
		assert_int_equal(read(link->fd, &c, 1), 1); /* and with its own */
		assert_int_equal(c, (char)number);
		end->fds++;
	} else {
		end->lost_fds++;
	}
	alk_link_close(link);
	if (end->free_on_message)
		alk_ctl_free(&end->ctl);
	if (end->messages == end->wanted)
		alk_loop_stop(end->loop);
}

static const struct alk_ctl_ops take_ops = {.message = on_message,
					    .link = take_link,
					    .closed = on_closed};

/* A pipe with the number in it. */
static void send_numbered_link(struct bench *b, unsigned number)
{
	struct alk_link link = {.transport = "tcp"};
	int fd[2];
	char c = (char)number;

	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	assert_int_equal(write(fd[1], &c, 1), 1);
	close(fd[1]);
	link.fd = fd[0];
	assert_int_equal(alk_ctl_send_link(b->a.ctl, number, &link), 0);
	assert_int_equal(link.fd, -1);
}

/* Links of one turn go together, and no descriptor stays behind. */
static void test_links(void **state)
{
	struct bench *b = *state;
	int before = open_fds();

	b->b.ctl = alk_ctl_new(b->loop, &b->raw, &take_ops, &b->b, NULL);
	assert_non_null(b->b.ctl);
	for (unsigned i = 1; i <= 3 * ALK_CTL_LINKS + 5; i++)
		send_numbered_link(b, i);
	b->b.wanted = 3 * ALK_CTL_LINKS + 5;
	alk_loop_run(b->loop);
	assert_int_equal(b->b.fds, b->b.wanted);
	assert_int_equal(open_fds(), before);
	assert_int_equal(alk_ctl_pending(b->a.ctl), 0);
}

/* What was gathered goes with the control socket at either end. */
static void test_links_freed(void **state)
{
	struct bench *b = *state;
	int before = open_fds();

	b->b.ctl = alk_ctl_new(b->loop, &b->raw, &take_ops, &b->b, NULL);
	assert_non_null(b->b.ctl);
	for (unsigned i = 1; i <= 10; i++)
		send_numbered_link(b, i);
	b->b.free_on_message = true;
	alk_loop_run(b->loop); /* until `a` sees the end */
	assert_int_equal(b->b.messages, 1);
	assert_true(b->a.closed);
	assert_int_equal(open_fds(), before - 1);
	b->a.closed = false;
}

static void test_links_unsent(void **state)
{
	struct bench *b = *state;
	int before = open_fds();

	for (unsigned i = 1; i <= 10; i++)
		send_numbered_link(b, i);
	alk_ctl_free(&b->a.ctl);
	assert_int_equal(open_fds(), before - 1);
}

/* Too many wait for one that does not read: they keep their order and their descriptors. */
static void test_links_queued(void **state)
{
	struct bench *b = *state;
	int before = open_fds();
	char c;

	assert_int_equal(fcntl(b->raw, F_SETFL, O_NONBLOCK), 0);
	for (unsigned i = 1; alk_ctl_pending(b->a.ctl) == 0 && i < 10000; i++) {
		struct alk_link link = {.transport = "tcp"};

		link.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_int_equal(alk_ctl_send_link(b->a.ctl, i, &link), 0);
	}
	assert_true(alk_ctl_pending(b->a.ctl) > 0);
	/* Its end is the end of all of them. */
	assert_int_equal(read(b->raw, &c, 1), 1);
	alk_fd_close(&b->raw);
	alk_loop_run(b->loop);
	assert_true(b->a.closed);
	alk_ctl_free(&b->a.ctl);
	assert_int_equal(open_fds(), before - 2);
}

/* Every frame that is not one ends the stream with -EPROTO, whoever sends it. */
static void test_garbage(void **state)
{
	static const struct {
		uint32_t len, flags;
		const char *text;
	} bad[] = {
		{0, 0, ""},
		{(16u << 20) + 1, 0, ""},
		{UINT32_MAX, 0, ""},
		{13, 2, "{\"op\":\"test\"}"},
		{13, 4, "{\"op\":\"test\"}"},
		{13, 4 | FLAG_FD, "{\"op\":\"test\"}"},
		{13, 2 | 4, "{\"op\":\"test\"}"},
		{13, 8, "{\"op\":\"test\"}"},
		{13, FLAG_FD, "{\"op\":\"test\"}"}, /* announces an fd that never came */
		{2, 0, "{}"},
		{8, 0, "{\"op\":1}"},
		{2, 0, "[]"},
		{1, 0, "7"},
		{3, 0, "\xff\xfe\xfd"},
		{23, 0, "{\"op\":\"a\",\"op\":\"bcdefg\"}"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct bench *b;

		assert_int_equal(setup(state), 0);
		b = *state;
		raw_frame(b, bad[i].len, bad[i].flags, bad[i].text, -1);
		alk_loop_run(b->loop);
		assert_true(b->a.closed);
		assert_int_equal(b->a.rc, -EPROTO);
		assert_int_equal(b->a.messages, 0);
		teardown(state);
	}
}

struct drip {
	struct bench *bench;
	struct alk_timer *timer;
	char bytes[64];
	size_t len, off;
};

static void drip_byte(void *user)
{
	struct drip *drip = user;

	assert_int_equal(drip->bench->a.messages, 0);
	assert_int_equal(write(drip->bench->raw, drip->bytes + drip->off++, 1), 1);
	if (drip->off < drip->len)
		alk_timer_start(drip->timer, 0);
}

/* A frame may come byte by byte. */
static void test_split(void **state)
{
	struct bench *b = *state;
	const char *text = "{\"op\":\"test\",\"n\":5}";
	uint32_t header[2] = {(uint32_t)strlen(text), 0};
	struct drip drip = {.bench = b, .len = sizeof(header) + strlen(text)};

	memcpy(drip.bytes, header, sizeof(header));
	memcpy(drip.bytes + sizeof(header), text, strlen(text));
	drip.timer = alk_timer_new(b->loop, "drip", drip_byte, &drip);
	alk_timer_start(drip.timer, 0);
	b->a.wanted = 1;
	alk_loop_run(b->loop);
	assert_int_equal(b->a.last, 5);
	assert_int_equal(drip.off, drip.len);
	alk_timer_free(&drip.timer);
}

/* Descriptors that no frame announces are closed; the stream goes on. */
static void test_surplus_fds(void **state)
{
	struct bench *b = *state;
	int before = open_fds();

	for (int i = 0; i < 20; i++)
		raw_frame(b, 13, 0, "{\"op\":\"test\"}", STDERR_FILENO);
	b->a.wanted = 20;
	alk_loop_run(b->loop);
	assert_int_equal(b->a.messages, 20);
	assert_int_equal(open_fds(), before);
}

/* Out of descriptors the message comes without its fd, and the next one has its own again. */
static void test_out_of_fds(void **state)
{
	struct bench *b = *state;
	struct rlimit limit, low;
	const char *text = "{\"op\":\"test\",\"n\":1,\"fd\":true}";

	const char *preload = getenv("LD_PRELOAD");
	int lowest;

	if (preload != NULL && strstr(preload, "vgpreload") != NULL)
		skip(); /* valgrind keeps the limit to itself: the kernel does not hear of it */
	lowest = dup(STDERR_FILENO);
	assert_true(lowest >= 0);
	close(lowest); /* the next one that would be given */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	raw_frame(b, (uint32_t)strlen(text), FLAG_FD, text, STDERR_FILENO);
	low = limit;
	low.rlim_cur = (rlim_t)lowest;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	b->a.wanted = 1;
	alk_loop_run(b->loop);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(b->a.lost_fds, 1);
	raw_frame(b, (uint32_t)strlen(text), FLAG_FD, text, STDERR_FILENO);
	b->a.wanted = 2;
	alk_loop_run(b->loop);
	assert_int_equal(b->a.lost_fds, 1);
	assert_int_equal(b->a.fds, 1);
}

/* The first of a frame have their descriptors, the others come without; the next frame has its own
 * again. */
static void test_links_out_of_fds(void **state)
{
	const char *preload = getenv("LD_PRELOAD");
	struct bench *b = *state;
	struct rlimit limit, low;
	int lowest;

	if (preload != NULL && strstr(preload, "vgpreload") != NULL)
		skip();
	b->b.ctl = alk_ctl_new(b->loop, &b->raw, &take_ops, &b->b, NULL);
	assert_non_null(b->b.ctl);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (unsigned i = 1; i <= ALK_CTL_LINKS; i++) /* sent at once: the frame is full */
		send_numbered_link(b, i);
	lowest = dup(STDERR_FILENO);
	assert_true(lowest >= 0);
	close(lowest);
	low = limit;
	low.rlim_cur = (rlim_t)lowest + 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	b->b.wanted = ALK_CTL_LINKS;
	alk_loop_run(b->loop);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(b->b.fds, 3);
	assert_int_equal(b->b.lost_fds, ALK_CTL_LINKS - 3);
	send_numbered_link(b, ALK_CTL_LINKS + 1);
	b->b.wanted++;
	alk_loop_run(b->loop);
	assert_int_equal(b->b.fds, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup_pair, teardown),
		cmocka_unit_test_setup_teardown(test_fd, setup_pair, teardown),
		cmocka_unit_test_setup_teardown(test_large, setup_pair, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup_pair, teardown),
		cmocka_unit_test_setup_teardown(test_close, setup_pair, teardown),
		cmocka_unit_test_setup_teardown(test_free_in_message, setup_pair, teardown),
		cmocka_unit_test_setup_teardown(test_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_freed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_unsent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_queued, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links_out_of_fds, setup, teardown),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test_setup_teardown(test_split, setup, teardown),
		cmocka_unit_test_setup_teardown(test_surplus_fds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_of_fds, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
