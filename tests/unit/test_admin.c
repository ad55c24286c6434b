/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin.h"

#define WAIT_MAX 512

struct bench {
	struct alk_loop *loop;
	struct alk_admin *admin;
	char dir[64], path[96];
	/* Calls that "later" keeps. */
	struct alk_admin_call *kept[WAIT_MAX];
	unsigned nkept;
	struct alk_admin_call *stream;
	unsigned closed;
};

/* A client, and what it has read. */
struct client {
	struct bench *bench;
	int fd;
	struct alk_io *io;
	char *in;
	size_t len, size;
	unsigned lines, wanted;
	bool eof;
};

static void run_echo(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)user;
	alk_admin_result(&call, json_pack("{s:O}", "echo", params));
}

static void run_later(void *user, struct alk_admin_call *call, json_t *params)
{
	struct bench *b = user;

	(void)params;
	assert_true(b->nkept < WAIT_MAX);
	b->kept[b->nkept++] = call;
}

static void run_fail(void *user, struct alk_admin_call *call, json_t *params)
{
	(void)user;
	alk_admin_error(&call, ALK_ADMIN_FAILED, "it broke: %s",
			json_string_value(json_object_get(params, "text")));
}

static void on_stream_closed(void *user, struct alk_admin_call *call)
{
	struct bench *b = user;

	assert_ptr_equal(call, b->stream);
	b->stream = NULL;
	b->closed++;
	alk_loop_stop(b->loop);
}

static void run_stream(void *user, struct alk_admin_call *call, json_t *params)
{
	struct bench *b = user;

	(void)params;
	b->stream = call;
	alk_admin_stream(call, on_stream_closed, b);
}

static void run_large(void *user, struct alk_admin_call *call, json_t *params)
{
	char *text = malloc(300001);

	(void)user, (void)params;
	assert_non_null(text);
	memset(text, 'x', 300000);
	text[300000] = '\0';
	alk_admin_result(&call, json_string(text));
	free(text);
}

static const struct alk_admin_command commands[] = {
	{.name = "echo",
	 .help = "Give back.",
	 .params = {{"text", 's', false, "text"},
		    {"n", 'i', false, "number"},
		    {"b", 'b', false, ""}},
	 .run = run_echo},
	{.name = "later", .help = "Answer later.", .run = run_later},
	{.name = "fail",
	 .changes = true,
	 .help = "Fail.",
	 .params = {{"text", 's', true, "why"}},
	 .run = run_fail},
	{.name = "stream", .help = "Stream.", .run = run_stream},
	{.name = "large", .help = "Answer at length.", .run = run_large},
	{0},
};

static int setup_dir(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	snprintf(b->dir, sizeof(b->dir), "/tmp/alknet-test-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->path, sizeof(b->path), "%s/admin.sock", b->dir);
	b->loop = alk_loop_new(NULL);
	assert_non_null(b->loop);
	*state = b;
	return 0;
}

static int setup(void **state)
{
	struct alk_err err = {""};
	struct bench *b;

	setup_dir(state);
	b = *state;
	b->admin = alk_admin_new(b->loop, b->path, commands, b, &err);
	if (b->admin == NULL)
		print_error("%s\n", err.text);
	return b->admin != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < b->nkept; i++)
		alk_admin_result(&b->kept[i], json_null());
	alk_admin_free(&b->admin);
	alk_loop_free(&b->loop);
	assert_int_equal(rmdir(b->dir), 0); /* nothing is left there */
	free(b);
	return 0;
}

static void on_client(void *user, int revents)
{
	struct client *c = user;
	ssize_t n;

	(void)revents;
	if (c->size - c->len < 65536) {
		c->size = c->size * 2 + 131072;
		c->in = realloc(c->in, c->size);
		assert_non_null(c->in);
	}
	n = recv(c->fd, c->in + c->len, c->size - c->len - 1, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		c->eof = true;
		alk_io_set(c->io, 0);
		alk_loop_stop(c->bench->loop);
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		c->lines += c->in[c->len + (size_t)i] == '\n';
	c->len += (size_t)n;
	c->in[c->len] = '\0';
	if (c->lines >= c->wanted)
		alk_loop_stop(c->bench->loop);
}

static void client_open(struct client *c, struct bench *b)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	*c = (struct client){.bench = b};
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", b->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	c->io = alk_io_new(b->loop, c->fd, "test client", on_client, c);
	alk_io_set(c->io, ALK_IO_READ);
}

static void client_close(struct client *c)
{
	alk_io_free(&c->io);
	alk_fd_close(&c->fd);
	free(c->in);
	c->in = NULL;
}

static void client_send(struct client *c, const char *text)
{
	assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Until so many more lines came, or the end. */
static void client_wait(struct client *c, unsigned lines)
{
	c->wanted = c->lines + lines;
	if (!c->eof)
		alk_loop_run(c->bench->loop);
}

/* The n-th line that came; new reference. */
static json_t *client_line(struct client *c, unsigned n)
{
	char *line = c->in, *end;
	json_t *message;

	while (n-- > 0) {
		line = strchr(line, '\n');
		assert_non_null(line);
		line++;
	}
	end = strchr(line, '\n');
	assert_non_null(end);
	message = json_loadb(line, (size_t)(end - line), 0, NULL);
	assert_non_null(message);
	assert_string_equal(json_string_value(json_object_get(message, "jsonrpc")), "2.0");
	return message;
}

static json_int_t error_code(const json_t *message)
{
	return json_integer_value(json_object_get(json_object_get(message, "error"), "code"));
}

static const char *error_text(const json_t *message)
{
	return json_string_value(json_object_get(json_object_get(message, "error"), "message"));
}

static void test_answer(void **state)
{
	struct bench *b = *state;
	struct client c;
	json_t *m, *echo;

	client_open(&c, b);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"echo\","
			"\"params\":{\"text\":\"hi\",\"n\":7,\"b\":true}}\n");
	client_wait(&c, 1);
	m = client_line(&c, 0);
	assert_string_equal(json_string_value(json_object_get(m, "id")), "x");
	echo = json_object_get(json_object_get(m, "result"), "echo");
	assert_int_equal(json_integer_value(json_object_get(echo, "n")), 7);
	json_decref(m);
	client_close(&c);
}

static void test_errors(void **state)
{
#define RPC "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":"
	static const struct {
		const char *line;
		int code;
		const char *says;
	} bad[] = {
		{"nonsense", -32700, "not JSON"},
		{"", -32700, "not JSON"},
		{"{\"jsonrpc\":\"2.0\"", -32700, "not JSON"},
		{"[]", -32600, "batch"},
		{"[" RPC "\"echo\"}]", -32600, "batch"},
		{"3", -32600, "object"},
		{"{\"id\":1,\"method\":\"echo\"}", -32600, "jsonrpc"},
		{"{\"jsonrpc\":2.0,\"id\":1,\"method\":\"echo\"}", -32600, "jsonrpc"},
		{"{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"echo\"}", -32600, "id"},
		{"{\"jsonrpc\":\"2.0\",\"id\":1}", -32600, "method"},
		{RPC "\"echo\",\"x\":1}", -32600, "\"x\""},
		{RPC "\"eco\"}", -32601, "did you mean echo?"},
		{RPC "\"something\"}", -32601, "help"},
		{RPC "\"echo\",\"params\":[1]}", -32602, "params"},
		{RPC "\"echo\",\"params\":{\"u\":1}}", -32602, "\"u\""},
		{RPC "\"echo\",\"params\":{\"n\":\"1\"}}", -32602, "n must be"},
		{RPC "\"echo\",\"params\":{\"n\":1.5}}", -32602, "n must be"},
		{RPC "\"echo\",\"params\":{\"n\":-1}}", -32602, "n must be"},
		{RPC "\"echo\",\"params\":{\"b\":1}}", -32602, "b must be"},
		{RPC "\"echo\",\"params\":{\"text\":null}}", -32602, "text must be"},
		{RPC "\"fail\"}", -32602, "text is missing"},
		{RPC "\"fail\",\"params\":{\"text\":\"hard\"}}", -32000, "it broke: hard"},
	};
	struct bench *b = *state;
	struct client c;

	client_open(&c, b);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *m;

		client_send(&c, bad[i].line);
		client_send(&c, "\n");
		client_wait(&c, 1);
		assert_false(c.eof);
		m = client_line(&c, i);
		assert_int_equal(error_code(m), bad[i].code);
		if (strstr(error_text(m), bad[i].says) == NULL)
			fail_msg("\"%s\" does not say %s", error_text(m), bad[i].says);
		json_decref(m);
	}
	client_close(&c);
}

/* A notification gets no answer, not even an error. */
static void test_notification(void **state)
{
	struct client c;
	json_t *m;

	client_open(&c, *state);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}\n"
			"{\"jsonrpc\":\"2.0\",\"method\":\"nothing\"}\n"
			"{\"jsonrpc\":\"2.0\",\"method\":\"fail\",\"params\":{}}\n"
			"{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"echo\"}\n");
	client_wait(&c, 1);
	assert_int_equal(c.lines, 1);
	m = client_line(&c, 0);
	assert_int_equal(json_integer_value(json_object_get(m, "id")), 9);
	json_decref(m);
	client_close(&c);
}

/* Answers may come late and in another order; a client has at most so many open, and the rest
 * waits. */
static void test_pipeline(void **state)
{
	struct bench *b = *state;
	struct client c;
	char *lines = malloc(301 * 96);
	size_t len = 0;

	assert_non_null(lines);
	client_open(&c, b);
	for (int i = 0; i <= 300; i++)
		len += (size_t)snprintf(lines + len, 96,
					"{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\"}\n", i,
					i < 300 ? "later" : "echo");
	client_send(&c, lines);
	free(lines);
	while (b->nkept < 256) {
		struct client other;

		client_open(&other, b);
		client_send(&other, "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"echo\"}\n");
		client_wait(&other, 1);
		client_close(&other);
	}
	assert_int_equal(b->nkept, 256);
	assert_int_equal(c.lines, 0);
	while (b->nkept > 0)
		alk_admin_result(&b->kept[--b->nkept], json_true());
	client_wait(&c, 257); /* and `echo` is read now, behind the others */
	while (b->nkept > 0)
		alk_admin_result(&b->kept[--b->nkept], json_true());
	if (c.lines < 301)
		client_wait(&c, 301 - c.lines);
	assert_int_equal(c.lines, 301);
	client_close(&c);
}

/* The half that the client closed does not take the answers from it. */
static void test_half_close(void **state)
{
	struct bench *b = *state;
	struct client c;

	client_open(&c, b);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n"
			"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"echo\"}\n{\"half\":");
	shutdown(c.fd, SHUT_WR);
	client_wait(&c, 3);
	assert_int_equal(c.lines, 2);
	assert_true(c.eof);
	client_close(&c);
}

/* A call outlives its client: it is answered into nothing. */
static void test_client_gone(void **state)
{
	struct bench *b = *state;
	struct client c, other;

	client_open(&c, b);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"later\"}\n");
	client_open(&other, b);
	client_send(&other, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	client_wait(&other, 1);
	while (b->nkept == 0) {
		client_send(&other, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
		client_wait(&other, 1);
	}
	client_close(&c);
	client_send(&other, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	client_wait(&other, 1);
	alk_admin_result(&b->kept[--b->nkept], json_true());
	client_close(&other);
}

static void test_long_line(void **state)
{
	struct bench *b = *state;
	struct client c;
	char *line = malloc(ALK_ADMIN_LINE_MAX + 2);
	json_t *m;

	assert_non_null(line);
	client_open(&c, b);
	memset(line, ' ', ALK_ADMIN_LINE_MAX);
	memcpy(line, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}", 40);
	strcpy(line + ALK_ADMIN_LINE_MAX, "\n");
	client_send(&c, line);
	client_wait(&c, 1);
	m = client_line(&c, 0);
	assert_null(json_object_get(m, "error"));
	json_decref(m);
	/* One more is too many; it is told so and closed. */
	strcpy(line + ALK_ADMIN_LINE_MAX, " ");
	client_send(&c, line);
	client_wait(&c, 1);
	m = client_line(&c, 1);
	assert_int_equal(error_code(m), -32600);
	json_decref(m);
	client_wait(&c, 1);
	assert_true(c.eof);
	client_close(&c);
	free(line);
}

static void test_stream(void **state)
{
	struct bench *b = *state;
	struct client c;
	json_t *m;

	client_open(&c, b);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"stream\"}\n");
	client_wait(&c, 1);
	assert_non_null(b->stream);
	alk_admin_event(b->stream, json_pack("{s:s}", "event", "one"));
	alk_admin_event(b->stream, json_pack("{s:s}", "event", "two"));
	client_wait(&c, 2);
	m = client_line(&c, 0);
	assert_true(json_is_true(json_object_get(m, "result")));
	json_decref(m);
	m = client_line(&c, 2);
	assert_string_equal(json_string_value(json_object_get(m, "method")), "event");
	assert_string_equal(json_string_value(
				    json_object_get(json_object_get(m, "params"), "event")),
			    "two");
	json_decref(m);
	client_close(&c);
	alk_loop_run(b->loop);
	assert_int_equal(b->closed, 1);
	assert_null(b->stream);
}

/* Who does not read is dropped; what waits for him is bounded. */
static void test_deaf(void **state)
{
	struct bench *b = *state;
	struct client c;
	char text[1001];
	unsigned n = 0;

	memset(text, 'e', 1000);
	text[1000] = '\0';
	client_open(&c, b);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"stream\"}\n");
	client_wait(&c, 1);
	alk_io_set(c.io, 0);
	for (; n < 5000; n++)
		alk_admin_event(b->stream, json_pack("{s:s}", "event", text));
	alk_loop_run(b->loop); /* until `closed` */
	assert_int_equal(b->closed, 1);
	client_close(&c);
}

/* One long answer is no reason to be dropped; not reading several is. */
static void test_long_answers(void **state)
{
	struct bench *b = *state;
	struct client c;

	client_open(&c, b);
	for (int i = 0; i < 3; i++)
		client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"large\"}\n");
	client_wait(&c, 3);
	assert_int_equal(c.lines, 3);
	client_close(&c);
	client_open(&c, b);
	for (int i = 0; i < 30; i++)
		client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"large\"}\n");
	client_wait(&c, 30);
	assert_true(c.eof);
	assert_true(c.lines < 30);
	client_close(&c);
}

static void test_too_many(void **state)
{
	struct bench *b = *state;
	struct client *c = calloc(ALK_ADMIN_CLIENTS_MAX + 1, sizeof(*c));
	json_t *m;

	assert_non_null(c);
	for (int i = 0; i <= ALK_ADMIN_CLIENTS_MAX; i++)
		client_open(&c[i], b);
	client_wait(&c[ALK_ADMIN_CLIENTS_MAX], 1);
	m = client_line(&c[ALK_ADMIN_CLIENTS_MAX], 0);
	assert_int_equal(error_code(m), -32000);
	json_decref(m);
	client_wait(&c[ALK_ADMIN_CLIENTS_MAX], 1);
	assert_true(c[ALK_ADMIN_CLIENTS_MAX].eof);
	client_send(&c[0], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	client_wait(&c[0], 1);
	assert_int_equal(c[0].lines, 1);
	for (int i = 0; i <= ALK_ADMIN_CLIENTS_MAX; i++)
		client_close(&c[i]);
	free(c);
}

/* THREATS 40: with no descriptor left a client is still heard, one after the other. */
static void test_t40_out_of_fds(void **state)
{
	struct bench *b = *state;
	const char *preload = getenv("LD_PRELOAD");
	struct rlimit limit, low;
	struct client c, d;
	int next;

	if (preload != NULL && strstr(preload, "vgpreload") != NULL)
		skip(); /* valgrind keeps the limit to itself: the kernel does not hear of it */
	client_open(&c, b);
	client_open(&d, b);
	next = dup(STDERR_FILENO);
	assert_true(next >= 0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	client_send(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	client_wait(&c, 1);
	assert_int_equal(c.lines, 1);
	assert_int_equal(d.lines, 0);
	client_close(&c); /* its place becomes the reserve again */
	client_wait(&d, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(d.lines, 1);
	client_close(&d);
}

/* THREATS 64: mode, directory, stale and live sockets, what is no socket, long paths. */
static void test_t64_mode(void **state)
{
	struct bench *b = *state;
	struct stat st;
	mode_t mask = umask(0);

	snprintf(b->path, sizeof(b->path), "%s/made/admin.sock", b->dir);
	b->admin = alk_admin_new(b->loop, b->path, commands, b, NULL);
	assert_int_equal(umask(mask), 0);
	assert_non_null(b->admin);
	assert_int_equal(lstat(b->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	*strrchr(b->path, '/') = '\0';
	assert_int_equal(stat(b->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	alk_admin_free(&b->admin);
	assert_int_equal(rmdir(b->path), 0);
}

static int bind_raw(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void test_t64_stale(void **state)
{
	struct bench *b = *state;
	struct client c;

	close(bind_raw(b->path));
	b->admin = alk_admin_new(b->loop, b->path, commands, b, NULL);
	assert_non_null(b->admin);
	client_open(&c, b);
	client_send(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\"}\n");
	client_wait(&c, 1);
	assert_int_equal(c.lines, 1);
	client_close(&c);
}

static void test_t64_live(void **state)
{
	struct bench *b = *state;
	struct alk_err err = {""};
	struct stat before, after;

	assert_int_equal(lstat(b->path, &before), 0);
	assert_null(alk_admin_new(b->loop, b->path, commands, b, &err));
	assert_non_null(strstr(err.text, b->path));
	assert_int_equal(lstat(b->path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void test_t64_no_socket(void **state)
{
	struct bench *b = *state;
	struct alk_err err = {""};
	char other[160];
	struct stat st;
	int fd;

	snprintf(other, sizeof(other), "%s/other", b->dir);
	fd = open(other, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "precious", 8), 8);
	close(fd);
	assert_int_equal(symlink(other, b->path), 0);
	assert_null(alk_admin_new(b->loop, b->path, commands, b, &err));
	assert_non_null(strstr(err.text, "not a socket"));
	assert_int_equal(lstat(b->path, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(unlink(b->path), 0);
	assert_int_equal(rename(other, b->path), 0);
	assert_null(alk_admin_new(b->loop, b->path, commands, b, &err));
	assert_non_null(strstr(err.text, "not a socket"));
	assert_int_equal(stat(b->path, &st), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(unlink(b->path), 0);
	assert_int_equal(mkdir(b->path, 0700), 0);
	assert_null(alk_admin_new(b->loop, b->path, commands, b, &err));
	assert_int_equal(rmdir(b->path), 0);
}

static void test_t64_paths(void **state)
{
	struct bench *b = *state;
	struct alk_err err = {""};
	char longest[200];

	memset(longest, 'a', sizeof(longest));
	longest[0] = '/';
	longest[108] = '\0';
	assert_null(alk_admin_new(b->loop, longest, commands, b, &err));
	assert_non_null(strstr(err.text, "107"));
	assert_null(alk_admin_new(b->loop, b->dir, commands, b, &err)); /* a directory */
	snprintf(longest, sizeof(longest), "%s/", b->dir);
	assert_null(alk_admin_new(b->loop, longest, commands, b, &err));
	snprintf(longest, sizeof(longest), "%s/a/b/c", b->dir);
	assert_null(alk_admin_new(b->loop, longest, commands, b, &err));
	assert_non_null(strstr(err.text, "directory"));
	/* Where anybody may write, nobody's socket is safe. */
	assert_int_equal(chmod(b->dir, 0777), 0);
	assert_null(alk_admin_new(b->loop, b->path, commands, b, &err));
	assert_non_null(strstr(err.text, "anybody may write"));
	assert_int_equal(chmod(b->dir, 0700), 0);
}

/* What another server has put in our place stays there. */
static void test_t64_replaced(void **state)
{
	struct bench *b = *state;
	struct stat st;
	int fd;

	assert_int_equal(unlink(b->path), 0);
	fd = bind_raw(b->path);
	alk_admin_free(&b->admin);
	assert_int_equal(lstat(b->path, &st), 0);
	close(fd);
	assert_int_equal(unlink(b->path), 0);
}

static void documented(const char *top, const char *page, const char *const *rows, size_t n)
{
	char path[4096];
	char *text = calloc(1, 1 << 20);
	FILE *file;

	snprintf(path, sizeof(path), "%s/docs/%s", top, page);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
	fclose(file);
	for (size_t i = 0; i < n; i++)
		if (strstr(text, rows[i]) == NULL)
			fail_msg("%s has no row %s", path, rows[i] + 1);
	free(text);
}

/* docs/ADMIN_API.md has every command, docs/METRICS.md every metric. */
static void test_documented(void **state)
{
	static const char *const commands_rows[] = {
#define ALK_COMMAND(id_, name_, ...) "\n### `" name_ "`\n",
#include "admin_commands.def"
#undef ALK_COMMAND
	};
	static const char *const metrics_rows[] = {
#define ALK_METRIC(id_, kind_, name_, help_) "\n| `" name_ "` |",
#include "metrics.def"
#undef ALK_METRIC
	};
	const char *top = getenv("ALKNET_SRCDIR");

	(void)state;
	if (top == NULL)
		skip();
	documented(top, "ADMIN_API.md", commands_rows,
		   sizeof(commands_rows) / sizeof(commands_rows[0]));
	documented(top, "METRICS.md", metrics_rows, sizeof(metrics_rows) / sizeof(metrics_rows[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notification, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pipeline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
		cmocka_unit_test_setup_teardown(test_client_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deaf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_t40_out_of_fds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_t64_mode, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_t64_stale, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_t64_live, setup, teardown),
		cmocka_unit_test_setup_teardown(test_t64_no_socket, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_t64_paths, setup_dir, teardown),
		cmocka_unit_test_setup_teardown(test_t64_replaced, setup, teardown),
		cmocka_unit_test(test_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
