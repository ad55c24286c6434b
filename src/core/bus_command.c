/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* `alknet pub`, `sub` and `call`: one connection to a bus's local socket, of a server (bus.listen)
 * or of `alknet connect --bus`. They block: each is one conversation. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "../plugins/services/common/frame.h"
#include "cmdline.h"
#include "main.h"
#include "text.h"

#define PREFIX "unix:"
#define SYSTEM_SOCKET "/run/alknet/bus.sock"
#define FRAME_LIMIT ((size_t)4 << 20)
#define PATTERNS_MAX 256
#define ANSWER_MS 60000 /* of what is not a call */

#define BUS_FLAG                                                                                                          \
	{                                                                                                                 \
		"bus", "unix:PATH",                                                                                       \
			"the socket; without it ALKNET_BUS, /run/alknet/bus.sock, or alknet/bus.sock in XDG_RUNTIME_DIR", \
			NULL                                                                                              \
	}
#define HELP_FLAG                                                                                  \
	{                                                                                          \
		"help", NULL, "print this (-h)", NULL                                              \
	}

const struct alk_flag alk_pub_flags[] = {
	BUS_FLAG,
	{"retain", NULL, "keep it as the topic's last value; the payload must be an object", NULL},
	HELP_FLAG,
	{0},
};

const struct alk_flag alk_sub_flags[] = {
	BUS_FLAG,
	{"count", "N", "end after so many events", NULL},
	{"group", "NAME", "share the events with the others of this group: each goes to one", NULL},
	{"replay", "last", "begin with the topics' last values", NULL},
	{"timeout", "TIME", "end after so long; with --count that is a failure", NULL},
	HELP_FLAG,
	{0},
};

const struct alk_flag alk_call_flags[] = {
	BUS_FLAG,
	{"timeout", "TIME", "how long it may take; without it as long as the bus lets it", NULL},
	{"deadline", "MS", "the same as milliseconds since 1970", NULL},
	HELP_FLAG,
	{0},
};

struct command {
	const char *name;
	const char *bus, *group, *replay;
	int64_t count, timeout, deadline; /* 0: not given; ms */
	bool retain, help;
	int fd;
	uint64_t until; /* CLOCK_MONOTONIC, ms; 0 = no end */
	struct frame_reader reader;
	uint8_t bytes[65536]; /* read, not looked at yet */
	size_t at, n;
};

static volatile sig_atomic_t caught;

static void on_signal(int signo)
{
	caught = signo;
}

static void catch_signals(void)
{
	/* A wait is interrupted. */
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static uint64_t now_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The command line */

static int number_take(const char *name, const char *text, bool duration, int64_t *out,
		       struct alk_err *err)
{
	char *end;
	int rc = 0;

	errno = 0;
	if (duration) {
		rc = alk_text_duration(text, out);
	} else {
		*out = strtoll(text, &end, 10);
		rc = *text < '0' || *text > '9' || *end != '\0' || errno != 0 ? -EINVAL : 0;
	}
	return rc == 0 && *out > 0 ? 0
				   : alk_err_set(err, -EINVAL, "--%s: must be %s, not \"%s\"", name,
						 duration ? "a time" : "a number from 1 up", text);
}

static int flag_take(void *user, const char *name, const char *text, struct alk_err *err)
{
	struct command *c = user;

	if (strcmp(name, "help") == 0)
		c->help = true;
	else if (strcmp(name, "retain") == 0)
		c->retain = true;
	else if (strcmp(name, "bus") == 0)
		c->bus = text;
	else if (strcmp(name, "group") == 0)
		c->group = text;
	else if (strcmp(name, "replay") == 0)
		c->replay = text;
	else if (strcmp(name, "count") == 0)
		return number_take(name, text, false, &c->count, err);
	else if (strcmp(name, "deadline") == 0)
		return number_take(name, text, false, &c->deadline, err);
	else
		return number_take(name, text, true, &c->timeout, err);
	return 0;
}

/* The connection */

/* Where the bus is if nothing says so. */
static const char *default_path(char *out, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (access(SYSTEM_SOCKET, F_OK) != 0 && dir != NULL && *dir == '/')
		snprintf(out, size, "%s/alknet/bus.sock", dir);
	else
		snprintf(out, size, SYSTEM_SOCKET);
	return out;
}

static int bus_connect(struct command *c, struct alk_err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const char *path = c->bus != NULL ? c->bus : getenv("ALKNET_BUS");
	char otherwise[256];

	if (path != NULL && *path != '\0') {
		if (strncmp(path, PREFIX, sizeof(PREFIX) - 1) != 0)
			return alk_err_set(err, -EINVAL,
					   "%s: \"%s\" is not unix: with a path behind it",
					   c->bus != NULL ? "--bus" : "ALKNET_BUS", path);
		path += sizeof(PREFIX) - 1;
	} else {
		path = default_path(otherwise, sizeof(otherwise));
	}
	if (*path == '\0' || strlen(path) >= sizeof(to.sun_path))
		return alk_err_set(err, -EINVAL, "--bus: a path has 1 to 107 bytes");
	strcpy(to.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		return alk_err_set(err, -ENOTCONN, "%s: no bus answers on %s: %s", c->name, path,
				   strerror(errno));
	frame_reader_init(&c->reader, FRAME_LIMIT);
	return 0;
}

static int lost(const struct command *c, struct alk_err *err)
{
	return alk_err_set(err, -EPIPE, "%s: the bus has closed the connection", c->name);
}

static int send_all(const struct command *c, const uint8_t *bytes, size_t n, struct alk_err *err)
{
	while (n > 0) {
		ssize_t sent = send(c->fd, bytes, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR && caught == 0)
			continue;
		if (sent < 0)
			return errno == EINTR ? -EINTR : lost(c, err);
		bytes += sent;
		n -= (size_t)sent;
	}
	return 0;
}

/* Takes `payload`. */
static int say(const struct command *c, const char *type, const char *id, json_t *payload,
	       struct alk_err *err)
{
	size_t n = 0;
	uint8_t *bytes = frame_make(type, id, payload, &n);
	int rc = bytes != NULL ? send_all(c, bytes, n, err)
			       : alk_err_set(err, -ENOMEM, "%s: this is not UTF-8", c->name);

	frame_free(&bytes, n);
	return rc;
}

static int fill(struct command *c, struct alk_err *err)
{
	struct pollfd fd = {.fd = c->fd, .events = POLLIN};
	int64_t left = c->until != 0 ? (int64_t)(c->until - now_ms(CLOCK_MONOTONIC)) : 0;
	ssize_t n;

	if (caught != 0)
		return -EINTR;
	if (c->until != 0 && left <= 0)
		return -ETIMEDOUT;
	n = poll(&fd, 1, c->until == 0 ? -1 : left > INT32_MAX ? INT32_MAX : (int)left);
	if (n <= 0)
		return n < 0 && errno != EINTR ? lost(c, err) : 0;
	n = recv(c->fd, c->bytes, sizeof(c->bytes), 0);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n <= 0)
		return lost(c, err);
	c->at = 0;
	c->n = (size_t)n;
	return 0;
}

/* The next frame, to be cleared; its bytes stay in c->reader until the next call. */
static int next(struct command *c, struct frame *frame, struct alk_err *err)
{
	size_t taken;
	int rc = 0;

	for (;;) {
		while (c->at < c->n) {
			rc = frame_feed(&c->reader, c->bytes + c->at, c->n - c->at, &taken, err);
			c->at += taken;
			if (rc > 0)
				rc = frame_parse(&c->reader, frame, err);
			else if (rc == 0)
				continue;
			if (rc < 0)
				alk_err_prefix(err, rc, "%s: the bus sent no frame", c->name);
			return rc;
		}
		rc = fill(c, err);
		if (rc < 0)
			return rc;
	}
}

static void disconnect(struct command *c)
{
	frame_reader_clear(&c->reader);
	if (c->fd >= 0)
		close(c->fd);
}

/* What an error says. */
static int error_set(const struct command *c, const char *about, const json_t *payload,
		     struct alk_err *err)
{
	const char *code = json_string_value(json_object_get(payload, "code"));
	const char *message = json_string_value(json_object_get(payload, "message"));
	char shown[256], shown_code[65];

	message = message != NULL ? message : "no reason given";
	code = code != NULL ? code : "INTERNAL";
	alk_text_escape(message, strlen(message), shown, sizeof(shown));
	alk_text_escape(code, strlen(code), shown_code, sizeof(shown_code));
	return alk_err_set(err, -EREMOTEIO, "%s: %s%s%s: %s", c->name, about,
			   *about != '\0' ? ": " : "", shown_code, shown);
}

/* Output: one line a value, and nothing that a terminal obeys */

static void print_json(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char byte = (unsigned char)text[i];

		/* White space between values; inside of text it cannot stand. */
		if (byte == '\n' || byte == '\r' || byte == '\t')
			putchar(' ');
		else if (byte == 0x7f)
			fputs("\\u007f", stdout);
		else if (byte == 0xc2 && i + 1 < n && (unsigned char)text[i + 1] < 0xa0)
			printf("\\u00%02x", (unsigned char)text[++i]);
		else
			putchar(byte);
	}
	putchar('\n');
	fflush(stdout);
}

static void print_value(const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	if (text != NULL)
		print_json(text, frame_text_shorten(text, strlen(text)));
	free(text);
}

static json_t *json_take(const char *what, const char *text, struct alk_err *err)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

	if (value == NULL)
		alk_err_set(err, -EINVAL, "%s: is not JSON (%s, byte %d); text stands in quotes",
			    what, error.text, error.position);
	return value;
}

/* All of standard input. */
static char *read_input(struct alk_err *err)
{
	size_t size = 65536, n = 0;
	char *text = malloc(size + 1), *grown;
	ssize_t got;

	while (text != NULL && (got = read(STDIN_FILENO, text + n, size - n)) != 0) {
		if (got < 0 && errno == EINTR && caught == 0)
			continue;
		if (got < 0 || n + (size_t)got > FRAME_LIMIT)
			break;
		n += (size_t)got;
		if (n == size) {
			grown = realloc(text, 2 * size + 1);
			if (grown == NULL)
				break;
			text = grown;
			size *= 2;
		}
	}
	if (text == NULL || n > FRAME_LIMIT || got != 0) {
		alk_err_set(err, -EINVAL,
			    "-: standard input cannot be read, or has more than 4 MiB");
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

/* pub */

/* All that was published before has been worked on when this is answered. */
static int pub_sync(struct command *c, struct alk_err *err)
{
	char ref[32];
	struct frame frame;
	int rc, failed = 0;
	bool done = false;

	snprintf(ref, sizeof(ref), "~sync-%ld", (long)getpid());
	rc = say(c, "__unsubscribe", ref, json_object(), err);
	c->until = now_ms(CLOCK_MONOTONIC) + ANSWER_MS;
	while (rc == 0 && !done) {
		const char *code;

		rc = next(c, &frame, err);
		if (rc < 0)
			break;
		code = json_string_value(json_object_get(frame.payload, "code"));
		done = strcmp(frame.id, ref) == 0;
		if (failed == 0 && strcmp(frame.type, "error") == 0 &&
		    !(done && code != NULL && strcmp(code, "NOT_FOUND") == 0))
			failed = error_set(c, "", frame.payload, err);
		frame_clear(&frame);
		if (failed != 0 && done)
			return failed;
	}
	if (rc == -ETIMEDOUT)
		return alk_err_set(err, rc, "pub: the bus does not answer");
	return rc < 0 && failed == 0 ? rc : failed;
}

/* Takes `payload`. */
static int pub_one(const struct command *c, const char *type, const char *id, json_t *payload,
		   struct alk_err *err)
{
	if (c->retain && !json_is_object(payload)) {
		json_decref(payload);
		return alk_err_set(err, -EINVAL, "--retain: the payload must be an object");
	}
	if (c->retain)
		json_object_set_new(payload, "retain", json_true());
	return say(c, type, id, payload, err);
}

static int pub_lines(const struct command *c, const char *type, const char *id, struct alk_err *err)
{
	char *line = NULL, what[32];
	size_t size = 0;
	ssize_t n;
	int rc = 0;

	for (unsigned number = 1; rc == 0 && (n = getline(&line, &size, stdin)) >= 0; number++) {
		json_t *payload;

		while (n > 0 && strchr(" \t\r\n", line[n - 1]) != NULL)
			line[--n] = '\0';
		if (n == 0)
			continue;
		snprintf(what, sizeof(what), "line %u", number);
		payload = json_take(what, line, err);
		rc = payload != NULL ? pub_one(c, type, id, payload, err) : -EINVAL;
	}
	free(line);
	return rc == 0 && caught != 0 ? -EINTR : rc;
}

static int pub_main(struct command *c, int argc, char **argv, struct alk_err *err)
{
	json_t *payload = NULL;
	char *type, *id;
	int rc;

	if (argc != 2)
		return alk_err_set(err, -EINVAL,
				   "pub: say a topic and its payload: alknet pub TOPIC JSON");
	if (strcmp(argv[1], "-") != 0 && (payload = json_take("JSON", argv[1], err)) == NULL)
		return -EINVAL;
	type = argv[0];
	id = strchr(type, ':');
	if (id != NULL)
		*id++ = '\0';
	rc = bus_connect(c, err);
	if (rc < 0)
		json_decref(payload);
	else if (payload != NULL)
		rc = pub_one(c, type, id != NULL ? id : "", payload, err);
	else
		rc = pub_lines(c, type, id != NULL ? id : "", err);
	if (rc == 0)
		rc = pub_sync(c, err);
	return rc;
}

/* sub */

static int sub_ask(const struct command *c, int n, char **patterns, struct alk_err *err)
{
	int rc = 0;

	for (int i = 0; i < n && rc == 0; i++) {
		json_t *payload = json_pack("{s:s}", "topic", patterns[i]);
		char ref[16];

		if (payload == NULL)
			return alk_err_set(err, -EINVAL, "sub: the pattern is not UTF-8");
		if (c->group != NULL)
			json_object_set_new(payload, "group", json_string(c->group));
		if (c->replay != NULL)
			json_object_set_new(payload, "replay", json_string(c->replay));
		snprintf(ref, sizeof(ref), "%d", i);
		rc = say(c, "__subscribe", ref, payload, err);
	}
	return rc;
}

static int sub_frame(struct command *c, const struct frame *frame, char **patterns, int n,
		     int64_t *printed, struct alk_err *err)
{
	char *end;
	long ref = strtol(frame->id, &end, 10);

	if (strcmp(frame->type, "__ok") == 0)
		return 0;
	if (strcmp(frame->type, "error") == 0)
		return error_set(c,
				 *end == '\0' && *frame->id != '\0' && ref >= 0 && ref < n
					 ? patterns[ref]
					 : "",
				 frame->payload, err);
	if (strcmp(frame->type, "__dropped") == 0) {
		fprintf(stderr, "alknet: sub: %" JSON_INTEGER_FORMAT " events were dropped\n",
			json_integer_value(json_object_get(frame->payload, "count")));
		return 0;
	}
	print_json((const char *)c->reader.body, c->reader.have - sizeof(c->reader.head));
	(*printed)++;
	return ferror(stdout) ? alk_err_set(err, -EIO, "sub: cannot write") : 0;
}

static int sub_main(struct command *c, int argc, char **argv, struct alk_err *err)
{
	int64_t printed = 0;
	struct frame frame;
	int rc;

	if (argc == 0 || argc > PATTERNS_MAX)
		return alk_err_set(err, -EINVAL, "sub: say a pattern: alknet sub PATTERN...");
	rc = bus_connect(c, err);
	if (rc == 0)
		rc = sub_ask(c, argc, argv, err);
	if (c->timeout != 0)
		c->until = now_ms(CLOCK_MONOTONIC) + (uint64_t)c->timeout;
	while (rc == 0 && (c->count == 0 || printed < c->count)) {
		rc = next(c, &frame, err);
		if (rc < 0)
			break;
		rc = sub_frame(c, &frame, argv, argc, &printed, err);
		frame_clear(&frame);
	}
	if (rc != -ETIMEDOUT)
		return rc;
	return c->count == 0
		       ? 0
		       : alk_err_set(err, rc, "sub: %" PRId64 " of %" PRId64 " events came in time",
				     printed, c->count);
}

/* call */

static json_t *call_payload(const char *operation, json_t *input, int64_t deadline)
{
	json_t *payload = json_pack("{s:s, s:o}", "operationId", operation, "input", input);

	if (payload != NULL && deadline != 0)
		json_object_set_new(payload, "deadline", json_integer(deadline));
	return payload;
}

static int call_late(const char *operation, struct alk_err *err)
{
	return alk_err_set(err, -ETIMEDOUT, "call: %s: no answer in time", operation);
}

/* Could it be there for all that? Then the call would begin without anybody knowing where it
 * ends. */
static bool kind_unknown(const json_t *payload)
{
	const char *code = json_string_value(json_object_get(payload, "code"));

	return code != NULL && (strcmp(code, "TIMEOUT") == 0 || strcmp(code, "UNAVAILABLE") == 0 ||
				strcmp(code, "OVERLOADED") == 0 || strcmp(code, "INTERNAL") == 0);
}

/* Only the schema says whether there is one answer or many; that there is none is the call's to
 * explain. */
static int call_is_many(struct command *c, const char *operation, int64_t deadline, bool *many,
			struct alk_err *err)
{
	struct frame frame;
	int rc = say(c, "call.requested", "schema",
		     call_payload("/services/schema", json_pack("{s:s}", "name", operation),
				  deadline),
		     err);
	bool done = false;

	while (rc == 0 && !done) {
		const char *type;

		rc = next(c, &frame, err);
		if (rc < 0)
			break;
		done = strcmp(frame.id, "schema") == 0;
		type = json_string_value(
			json_object_get(json_object_get(frame.payload, "output"), "op_type"));
		*many = done && type != NULL && strcmp(type, "subscription") == 0;
		if (!done && strcmp(frame.type, "error") == 0)
			rc = error_set(c, "", frame.payload, err);
		else if (done && type == NULL && kind_unknown(frame.payload))
			rc = error_set(c, operation, frame.payload, err);
		frame_clear(&frame);
	}
	return rc == -ETIMEDOUT ? call_late(operation, err) : rc;
}

/* 1: it has ended well. */
static int call_frame(const struct command *c, const char *operation, const struct frame *frame,
		      bool many, struct alk_err *err)
{
	if (strcmp(frame->type, "error") == 0)
		return error_set(c, operation, frame->payload, err);
	if (strcmp(frame->id, "call") != 0)
		return 0;
	if (strcmp(frame->type, "call.responded") == 0) {
		print_value(json_object_get(frame->payload, "output"));
		return many ? 0 : 1;
	}
	if (strcmp(frame->type, "call.completed") == 0)
		return 1;
	if (strcmp(frame->type, "call.error") == 0)
		return error_set(c, operation, frame->payload, err);
	return alk_err_set(err, -ECANCELED, "call: %s: it was aborted", operation);
}

static int call_wait(struct command *c, const char *operation, bool many, struct alk_err *err)
{
	struct alk_err ignored;
	struct frame frame;
	int rc = 0;

	while (rc == 0) {
		rc = next(c, &frame, err);
		if (rc < 0)
			break;
		rc = call_frame(c, operation, &frame, many, err);
		frame_clear(&frame);
	}
	if (rc == -EINTR)
		say(c, "call.aborted", "call", json_object(), &ignored);
	if (rc == -ETIMEDOUT)
		return call_late(operation, err);
	return rc == 1 ? 0 : rc;
}

static int call_main(struct command *c, int argc, char **argv, struct alk_err *err)
{
	char *text = NULL;
	bool many = false;
	int64_t deadline = c->deadline;
	json_t *input;
	int rc;

	if (argc < 1 || argc > 2)
		return alk_err_set(err, -EINVAL,
				   "call: say an operation: alknet call OPERATION [JSON]");
	if (argc == 2 && strcmp(argv[1], "-") == 0 && (text = read_input(err)) == NULL)
		return -EINVAL;
	input = json_take("JSON", text != NULL ? text : argc == 2 ? argv[1] : "{}", err);
	free(text);
	if (input == NULL)
		return -EINVAL;
	rc = bus_connect(c, err);
	/* The bus keeps the time; this is for one that does not answer at all. */
	if (c->timeout != 0)
		c->until = now_ms(CLOCK_MONOTONIC) + (uint64_t)c->timeout + 2000;
	if (c->timeout != 0)
		deadline = (int64_t)now_ms(CLOCK_REALTIME) + c->timeout;
	if (rc == 0)
		rc = call_is_many(c, argv[0], deadline, &many, err);
	if (rc == 0)
		rc = say(c, "call.requested", "call", call_payload(argv[0], input, deadline), err);
	else
		json_decref(input);
	return rc == 0 ? call_wait(c, argv[0], many, err) : rc;
}

static int command_main(const char *name, const struct alk_flag *flags,
			int (*run)(struct command *c, int argc, char **argv, struct alk_err *err),
			int argc, char **argv)
{
	struct alk_err err = {.text = "out of memory"};
	struct command *c = calloc(1, sizeof(*c));
	int rest, rc;

	if (c == NULL)
		return alk_main_fail(1, &err);
	c->name = name;
	c->fd = -1;
	rest = alk_cmdline_read_flags(flags, name, argc, argv, flag_take, c, &err);
	if (rest < 0 || c->help) {
		rc = rest < 0 ? alk_main_fail(2, &err) : alk_cmdline_help(name, stdout) < 0;
		free(c);
		return rc != 0 ? rc : fflush(stdout) == 0 ? 0 : 1;
	}
	if (c->replay != NULL && strcmp(c->replay, "last") != 0)
		rc = alk_err_set(&err, -EINVAL, "--replay: there is \"last\"");
	else if (c->timeout != 0 && c->deadline != 0)
		rc = alk_err_set(&err, -EINVAL, "--timeout and --deadline: say one of them");
	else {
		catch_signals();
		rc = run(c, argc - rest, argv + rest, &err);
	}
	disconnect(c);
	free(c);
	if (rc == -EINTR || (rc < 0 && caught != 0))
		return 128 + caught;
	if (rc < 0)
		return alk_main_fail(rc == -EINVAL ? 2 : 1, &err);
	return fflush(stdout) == 0 ? 0 : 1;
}

int alk_main_pub(int argc, char **argv)
{
	return command_main("pub", alk_pub_flags, pub_main, argc, argv);
}

int alk_main_sub(int argc, char **argv)
{
	return command_main("sub", alk_sub_flags, sub_main, argc, argv);
}

int alk_main_call(int argc, char **argv)
{
	return command_main("call", alk_call_flags, call_main, argc, argv);
}
