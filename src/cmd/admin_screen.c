/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* `alknet-admin watch` on a terminal: one screen, drawn anew each second and at each event. It is
 * written with one write from the top left corner on and each line is cleared behind its end, so
 * that nothing flickers. */
#include "admin_tool.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#define EVENTS_KEPT 200
#define LIST_MAX 2000 /* sessions; more are counted and not listed */
#define ROUND_MS 1000

#define SCREEN_ENTER "\033[?1049h\033[?25l\033[?7l"
#define SCREEN_LEAVE "\033[?7h\033[?25h\033[?1049l"

enum {
	ID_WATCH = 1,
	ID_STATUS,
	ID_SESSIONS,
	ID_METRICS,
};

/* Counters that are shown as rates. */
static const struct {
	const char *metric, *name;
	bool bytes;
} rates[] = {
	{"alknet_channel_receive_bytes_total", "in", true},
	{"alknet_channel_transmit_bytes_total", "out", true},
	{"alknet_channels_total", "channels", false},
	{"alknet_auth_accepted_total", "logins", false},
	{"alknet_auth_rejected_total", "rejected", false},
};
#define RATES (sizeof(rates) / sizeof(rates[0]))

struct screen {
	struct tool *tool;
	struct termios before;
	sigset_t unblocked;
	json_t *status, *sessions;
	char *events[EVENTS_KEPT]; /* a ring: the newest is at `newest` */
	size_t newest, n_events;
	double total[RATES], rate[RATES];
	uint64_t asked_ms, counted_ms;
	unsigned waiting; /* answers to the round that was asked last */
	int columns, rows;
};

static volatile sig_atomic_t got_end, got_resize, got_stop;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- the terminal ----------------------------------------------------------------------------- */

static void write_all(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, text, len);

		if (n < 0 && errno != EINTR)
			return;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

static void terminal_enter(const struct screen *s)
{
	struct termios raw = s->before;

	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	write_all(SCREEN_ENTER, sizeof(SCREEN_ENTER) - 1);
}

static void terminal_leave(const struct screen *s)
{
	write_all(SCREEN_LEAVE, sizeof(SCREEN_LEAVE) - 1);
	tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
}

static void terminal_size(struct screen *s)
{
	struct winsize size = {0};

	s->columns = 80;
	s->rows = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		s->columns = size.ws_col;
		s->rows = size.ws_row;
	}
}

static void on_signal(int signo)
{
	if (signo == SIGWINCH || signo == SIGCONT)
		got_resize = 1;
	else if (signo == SIGTSTP)
		got_stop = 1;
	else
		got_end = signo;
}

/* They are let in only while the screen waits, so none is missed between a look and the wait. */
static void catch_signals(struct screen *s)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t blocked;

	sigemptyset(&blocked);
	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		sigaddset(&blocked, signals[i]);
		sigaction(signals[i], &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &blocked, &s->unblocked);
}

/* Ctrl-Z: the terminal as it was, while we stand still. */
static void stand_still(struct screen *s)
{
	got_stop = 0;
	terminal_leave(s);
	raise(SIGSTOP);
	tcgetattr(STDIN_FILENO, &s->before);
	terminal_enter(s);
	got_resize = 1;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Bytes of the next character and its columns; -1 when it cannot be shown. */
static size_t char_next(const char *text, size_t left, mbstate_t *state, int *width)
{
	wchar_t c;
	size_t n = mbrtowc(&c, text, left, state);

	if (n == (size_t)-1 || n == (size_t)-2 || n == 0) {
		*state = (mbstate_t){0};
		*width = -1;
		return 1;
	}
	*width = wcwidth(c);
	return n;
}

/* One line of the screen: clipped at its width, in columns as the terminal counts them. What does
 * not print, and what is not text in the terminal's own encoding, becomes a question mark. */
static void put_line(FILE *out, const struct screen *s, const char *text, bool bold)
{
	mbstate_t state = {0};
	size_t left = strlen(text), n;
	int column = 0, width;

	if (bold)
		fputs("\033[1m", out);
	for (; left > 0; text += n, left -= n) {
		n = char_next(text, left, &state, &width);
		if (column + (width > 0 ? width : 1) > s->columns)
			break;
		if (width > 0)
			fwrite(text, 1, n, out);
		else
			fputc('?', out);
		column += width > 0 ? width : 1;
	}
	fputs(bold ? "\033[0m\033[K" : "\033[K", out);
}

/* How many columns a text has. */
static int columns_of(const char *text)
{
	mbstate_t state = {0};
	size_t left = strlen(text), n;
	int columns = 0, width;

	for (; left > 0; text += n, left -= n) {
		n = char_next(text, left, &state, &width);
		columns += width > 0 ? width : 1;
	}
	return columns;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

static double number_of(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static void head_lines(const struct screen *s, char lines[3][512])
{
	char cell[64];
	size_t n = 0;

	admin_format("uptime", json_object_get(s->status, "uptime"), cell, sizeof(cell));
	snprintf(lines[0], 512, "alknet %s  pid %.0f  %s  up %s  generation %.0f      q leaves",
		 text_of(s->status, "version"), number_of(s->status, "pid"),
		 text_of(s->status, "state"), cell, number_of(s->status, "generation"));
	snprintf(
		lines[1], 512,
		"sessions %.0f  channels %.0f  links %.0f  startups %.0f  refused %.0f  workers %zu  restarts %.0f",
		number_of(s->status, "sessions"), number_of(s->status, "channels"),
		number_of(s->status, "links"), number_of(s->status, "startups"),
		number_of(s->status, "links_refused"),
		json_array_size(json_object_get(s->status, "workers")),
		number_of(s->status, "worker_restarts"));
	lines[2][0] = '\0';
	for (size_t i = 0; i < RATES && n < 512; i++) {
		if (rates[i].bytes) {
			json_t *value = json_real(s->rate[i]);

			admin_format("bytes", value, cell, sizeof(cell));
			json_decref(value);
		} else {
			snprintf(cell, sizeof(cell), "%.1f", s->rate[i]);
		}
		n += (size_t)snprintf(lines[2] + n, 512 - n, "%s%s %s/s", i > 0 ? "  " : "",
				      rates[i].name, cell);
	}
}

static void session_line(const json_t *session, char *line, size_t size)
{
	const char *user = text_of(session, "user");
	int pad = 20 - columns_of(user);
	char age[64];

	admin_format("age", json_object_get(session, "age"), age, sizeof(age));
	snprintf(line, size, "%8.0f  %s%*s  %-40s %8.0f  %10s  %s", number_of(session, "id"), user,
		 pad > 0 ? pad : 0, "", text_of(session, "remote_addr"),
		 number_of(session, "channels"), age, text_of(session, "state"));
}

/* Up to `rows` lines of sessions, the youngest first. Returns how many were put. */
static int put_sessions(FILE *out, const struct screen *s, int rows)
{
	size_t n = json_array_size(s->sessions);
	char line[1024];
	int put = 0;

	if (rows < 2)
		return 0;
	snprintf(line, sizeof(line), "%8s  %-20s  %-40s %8s  %10s  %s", "SESSION", "USER",
		 "REMOTE ADDR", "CHANNELS", "AGE", "STATE");
	fputs("\r\n", out);
	put_line(out, s, line, true);
	for (put = 1; put < rows && (size_t)put <= n; put++) {
		session_line(json_array_get(s->sessions, n - (size_t)put), line, sizeof(line));
		fputs("\r\n", out);
		put_line(out, s, line, false);
	}
	if (s->sessions == NULL && s->status != NULL && put < rows) {
		fputs("\r\n", out);
		put_line(out, s, "  there are too many to list them", false);
		put++;
	}
	return put;
}

static int put_events(FILE *out, const struct screen *s, int rows)
{
	int n = rows - 1 < (int)s->n_events ? rows - 1 : (int)s->n_events;

	if (rows < 2)
		return 0;
	fputs("\r\n", out);
	put_line(out, s, "EVENTS", true);
	for (int i = n - 1; i >= 0; i--) {
		fputs("\r\n", out);
		put_line(out, s, s->events[(s->newest + EVENTS_KEPT - (size_t)i) % EVENTS_KEPT],
			 false);
	}
	return n + 1;
}

static void draw(const struct screen *s)
{
	char lines[3][512], *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int left = s->rows;

	if (out == NULL)
		return;
	head_lines(s, lines);
	fputs("\033[H", out);
	for (int i = 0; i < 3 && left > 0; i++, left--) {
		if (i > 0)
			fputs("\r\n", out);
		put_line(out, s, lines[i], i == 0);
	}
	for (int part = 0; part < 2 && left > 2; part++) {
		fputs("\r\n\033[K", out);
		left--;
		left -= part == 0 ? put_sessions(out, s, (left + 1) / 2) : put_events(out, s, left);
	}
	fputs("\033[J", out);
	if (fclose(out) == 0)
		write_all(text, len);
	free(text);
}

/* --- what comes ------------------------------------------------------------------------------- */

static double metric_value(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) == 0 && line[len] == ' ')
			return strtod(line + len, NULL);
	}
	return 0;
}

static void take_metrics(struct screen *s, const json_t *result)
{
	const char *text = text_of(result, "text");
	uint64_t now = now_ms();
	double seconds = (double)(now - s->counted_ms) / 1000;

	for (size_t i = 0; i < RATES; i++) {
		double total = metric_value(text, rates[i].metric), more = total - s->total[i];

		s->rate[i] = s->counted_ms != 0 && seconds > 0 && more > 0 ? more / seconds : 0;
		s->total[i] = total;
	}
	s->counted_ms = now;
}

static void take_event(struct screen *s, const json_t *event)
{
	char *line = NULL;
	size_t len;
	FILE *out = open_memstream(&line, &len);

	if (out == NULL)
		return;
	admin_print_event(out, event);
	if (fclose(out) != 0) {
		free(line);
		return;
	}
	line[strcspn(line, "\n")] = '\0';
	s->newest = (s->newest + 1) % EVENTS_KEPT;
	free(s->events[s->newest]);
	s->events[s->newest] = line;
	s->n_events += s->n_events < EVENTS_KEPT;
}

/* False: the server said no. */
static bool take_message(struct screen *s, const json_t *message)
{
	json_t *result = json_object_get(message, "result"),
	       *event = json_object_get(message, "params");
	json_int_t id = json_integer_value(json_object_get(message, "id"));

	if (event != NULL) {
		take_event(s, event);
		return true;
	}
	if (result == NULL)
		return false;
	if (id > ID_WATCH && s->waiting > 0)
		s->waiting--;
	if (id == ID_STATUS) {
		json_decref(s->status);
		s->status = json_incref(result);
	} else if (id == ID_SESSIONS) {
		json_decref(s->sessions);
		s->sessions = json_incref(json_object_get(result, "sessions"));
	} else if (id == ID_METRICS) {
		take_metrics(s, result);
	}
	return true;
}

/* Ask for everything again, unless the last round is still under way. */
static int ask_round(struct screen *s)
{
	json_t *none = json_object();
	int status;

	s->asked_ms = now_ms();
	if (s->waiting > 0) {
		json_decref(none);
		return STATUS_OK;
	}
	status = admin_ask(s->tool, ID_STATUS, "status", none);
	if (status == STATUS_OK)
		status = admin_ask(s->tool, ID_METRICS, "metrics", none);
	s->waiting = 2;
	if (number_of(s->status, "sessions") > LIST_MAX) {
		json_decref(s->sessions);
		s->sessions = NULL;
	} else if (status == STATUS_OK) {
		status = admin_ask(s->tool, ID_SESSIONS, "session.list", none);
		s->waiting++;
	}
	json_decref(none);
	return status;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void screen_wait(struct screen *s, struct pollfd *fds)
{
	uint64_t next = s->asked_ms + ROUND_MS, now = now_ms();
	uint64_t ms = next > now ? next - now : 0;
	const struct timespec timeout = {.tv_sec = (time_t)(ms / 1000),
					 .tv_nsec = (long)(ms % 1000) * 1000000};

	fds[0] = (struct pollfd){.fd = s->tool->fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	if (ppoll(fds, 2, &timeout, &s->unblocked) < 0)
		fds[0].revents = fds[1].revents = 0;
}

static bool key_leaves(void)
{
	char keys[64];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n < 0)
		return errno != EINTR && errno != EAGAIN; /* EIO: the terminal has gone */
	return n == 0 || memchr(keys, 'q', (size_t)n) != NULL ||
	       memchr(keys, 'Q', (size_t)n) != NULL;
}

/* What the server sent. Gives its refusal in *refused. */
static int screen_read(struct screen *s, json_t **refused)
{
	json_t *message;
	int status = admin_read(s->tool);

	while (status == STATUS_OK && (message = admin_take(s->tool, &status)) != NULL) {
		if (!take_message(s, message)) {
			*refused = message;
			return STATUS_FAILED;
		}
		json_decref(message);
	}
	return status;
}

static int screen_run(struct screen *s, json_t **refused)
{
	struct pollfd fds[2];
	int status = ask_round(s);

	while (status == STATUS_OK && !got_end) {
		if (got_stop)
			stand_still(s);
		if (got_resize) {
			got_resize = 0;
			terminal_size(s);
		}
		if (s->status != NULL)
			draw(s);
		screen_wait(s, fds);
		if (fds[1].revents != 0 && key_leaves())
			return STATUS_OK;
		if (fds[0].revents != 0)
			status = screen_read(s, refused);
		if (status == STATUS_OK && now_ms() - s->asked_ms >= ROUND_MS)
			status = ask_round(s);
	}
	return status;
}

bool admin_screen_possible(void)
{
	const char *term = getenv("TERM");

	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term != NULL && term[0] != '\0' &&
	       strcmp(term, "dumb") != 0;
}

int admin_screen(struct tool *tool)
{
	struct screen s = {.tool = tool};
	json_t *refused = NULL;
	int status;

	setlocale(LC_CTYPE, "");
	if (tcgetattr(STDIN_FILENO, &s.before) != 0)
		return admin_fail(STATUS_FAILED, "cannot use the terminal: %s", strerror(errno));
	terminal_size(&s);
	catch_signals(&s);
	tool->quiet = true; /* until the terminal is as it was */
	terminal_enter(&s);
	status = screen_run(&s, &refused);
	terminal_leave(&s);
	tool->quiet = false;
	if (refused != NULL)
		status = admin_print_error(json_object_get(refused, "error"));
	else if (status != STATUS_OK)
		admin_fail(status, "%s", tool->why);
	json_decref(refused);
	json_decref(s.status);
	json_decref(s.sessions);
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		free(s.events[i]);
	return status;
}
