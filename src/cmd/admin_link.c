/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The connection to the server. */
#include "admin_secret.h"
#include "admin_tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define ANSWER_MAX ((size_t)256 << 20)
#define ANSWER_SECONDS 30

/* Commands that the server may take longer for, and how long it may; 0: until it answers. */
static const struct {
	const char *name;
	int seconds;
} slow_commands[] = {
	{"reload", 75},	       {"policy.reload", 75}, {"keys.reload", 75},
	{"config.check", 75},  {"upgrade", 45},	      {"acme.renew", 0},
	{"operation.call", 0}, {"watch", 0},	      {"bus.tail", 0},
};

static void limit_set(struct tool *tool, int seconds)
{
	struct timeval limit = {.tv_sec = seconds};

	tool->patience = seconds;
	setsockopt(tool->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

void admin_wait_for(struct tool *tool, const char *command)
{
	for (size_t i = 0; i < sizeof(slow_commands) / sizeof(slow_commands[0]); i++)
		if (strcmp(command, slow_commands[i].name) == 0)
			limit_set(tool, slow_commands[i].seconds);
}

int admin_fail(int status, const char *fmt, ...)
{
	va_list ap;

	fputs("alknet-admin: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return status;
}

/* The same for what ends the talk; while a screen is up it is kept for later. */
static int ALK_PRINTF(2, 3) admin_tell(struct tool *tool, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(tool->why, sizeof(tool->why), fmt, ap);
	va_end(ap);
	return tool->quiet ? STATUS_FAILED : admin_fail(STATUS_FAILED, "%s", tool->why);
}

int admin_reach(struct tool *tool)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = ANSWER_SECONDS};

	if (strlen(tool->socket) >= sizeof(sa.sun_path))
		return admin_fail(STATUS_USAGE, "--socket: %s is longer than %zu bytes",
				  tool->socket, sizeof(sa.sun_path) - 1);
	memcpy(sa.sun_path, tool->socket, strlen(tool->socket));
	tool->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (tool->fd < 0 || connect(tool->fd, (struct sockaddr *)&sa, sizeof(sa)) != 0)
		return admin_fail(STATUS_FAILED, "cannot reach a server at %s: %s", tool->socket,
				  strerror(errno));
	limit_set(tool, ANSWER_SECONDS);
	setsockopt(tool->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return STATUS_OK;
}

int admin_ask(struct tool *tool, int id, const char *method, json_t *params)
{
	json_t *message = json_pack("{s:s, s:i, s:s, s:O}", "jsonrpc", "2.0", "id", id, "method",
				    method, "params", params);
	char *text = message != NULL ? json_dumps(message, JSON_COMPACT) : NULL;
	int status = text != NULL ? STATUS_OK : admin_fail(STATUS_FAILED, "out of memory");
	size_t len = text != NULL ? strlen(text) : 0;

	for (size_t off = 0; status == STATUS_OK && off <= len;) {
		bool last = off == len;
		ssize_t n = send(tool->fd, last ? "\n" : text + off, last ? 1 : len - off,
				 MSG_NOSIGNAL);

		if (n > 0)
			off += (size_t)n;
		else if (errno != EINTR)
			/* Not heard: what the server said when it closed is still worth reading. */
			break;
	}
	if (text != NULL)
		explicit_bzero(text, len);
	free(text);
	json_decref(message);
	return status;
}

/* Answers may be secret. */
void admin_buffer_deinit(struct tool *tool)
{
	if (tool->buf != NULL)
		explicit_bzero(tool->buf, tool->size);
	free(tool->buf);
	tool->buf = NULL;
}

/* More bytes. 0 at the end, -errno. */
static ssize_t read_more(struct tool *tool)
{
	ssize_t n;

	if (tool->len == tool->size) {
		size_t size = tool->size > 0 ? tool->size * 2 : 65536;
		char *buf = size <= ANSWER_MAX ? malloc(size) : NULL;

		if (buf == NULL)
			return -ENOMEM;
		if (tool->len > 0)
			memcpy(buf, tool->buf, tool->len);
		admin_buffer_deinit(tool);
		tool->buf = buf;
		tool->size = size;
	}
	do {
		n = recv(tool->fd, tool->buf + tool->len, tool->size - tool->len, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	tool->len += (size_t)n;
	return n;
}

static int read_failed(struct tool *tool, ssize_t n)
{
	if (n == 0)
		return admin_tell(
			tool,
			"the server closed the connection (it hears root, its own user and admin_users only)");
	if (n == -EAGAIN)
		return admin_tell(tool, "the server did not answer in %d s", tool->patience);
	return admin_tell(tool, "cannot read the answer: %s", strerror((int)-n));
}

int admin_read(struct tool *tool)
{
	ssize_t n;

	if (tool->taken > 0)
		memmove(tool->buf, tool->buf + tool->taken, tool->len - tool->taken);
	tool->len -= tool->taken;
	tool->scanned -= tool->taken;
	tool->taken = 0;
	n = read_more(tool);
	return n > 0 ? STATUS_OK : read_failed(tool, n);
}

json_t *admin_take(struct tool *tool, int *status)
{
	char *line = tool->buf + tool->taken, *newline = NULL;
	json_t *message;

	*status = STATUS_OK;
	if (tool->len > tool->scanned)
		newline = memchr(tool->buf + tool->scanned, '\n', tool->len - tool->scanned);
	if (newline == NULL) {
		tool->scanned = tool->len;
		return NULL;
	}
	tool->taken = tool->scanned = (size_t)(newline - tool->buf) + 1;
	admin_secret_take(line, (size_t)(newline - line));
	message = json_loadb(line, (size_t)(newline - line), JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(message))
		return message;
	json_decref(message);
	*status = admin_tell(tool, "what answers at %s is not an alknet server", tool->socket);
	return NULL;
}

json_t *admin_next(struct tool *tool)
{
	json_t *message;
	int status;

	while ((message = admin_take(tool, &status)) == NULL && status == STATUS_OK) {
		status = admin_read(tool);
		if (status != STATUS_OK)
			return NULL;
	}
	return message;
}

int admin_print_error(const json_t *error)
{
	const char *text = json_string_value(json_object_get(error, "message"));

	fputs("alknet-admin: ", stderr);
	for (const char *c = text != NULL ? text : "the server could not"; *c != '\0'; c++) {
		if ((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7f)
			fputc(*c, stderr);
		else
			fprintf(stderr, "\\x%02x", (unsigned char)*c);
	}
	fputc('\n', stderr);
	return json_integer_value(json_object_get(error, "code")) == ALK_ADMIN_BAD_PARAMS
		       ? STATUS_USAGE
		       : STATUS_FAILED;
}

int admin_call(struct tool *tool, const char *method, json_t *params, json_t **result)
{
	json_t *message;
	int status = admin_reach(tool);

	if (status == STATUS_OK)
		status = admin_ask(tool, 1, method, params);
	if (status != STATUS_OK)
		return status;
	message = admin_next(tool);
	if (message == NULL)
		return STATUS_FAILED;
	*result = json_incref(json_object_get(message, "result"));
	if (*result == NULL)
		status = admin_print_error(json_object_get(message, "error"));
	json_decref(message);
	return status;
}
