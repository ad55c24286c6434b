/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* alknet-acme: the supervisor starts it with a socket as descriptor COMPANION_FD, and it lives as
 * long as the socket. It may be killed at any time: what is on disk is whole. */
#include "acme.h"
#include "acme_private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../../common/companion.h"

/* The longest wait at once: the wall clock may be set meanwhile. */
#define TURN_MS 30000
#define LOCK_MS 200
#define CUT_OFF "alknet-acme was ended while it asked the CA"

/* ---- the supervisor ---- */

void acme_client_say(struct acme_client *c, json_t *event)
{
	char *text = event != NULL ? json_dumps(event, JSON_COMPACT) : NULL;

	(void)c;
	if (text == NULL || send(COMPANION_FD, text, strlen(text), MSG_NOSIGNAL) < 0)
		exit(1);
	acme_text_free(&text);
	json_decref(event);
}

void acme_client_notice(struct acme_client *c, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	acme_client_say(c,
			json_pack("{s:s, s:o}", "event", "notice", "text", acme_text_json(text)));
}

/* The next packet; NULL: none now, or none at all. */
static json_t *packet_read(int flags)
{
	static char bytes[ACME_PACKET_MAX];
	ssize_t n;

	do
		n = recv(COMPANION_FD, bytes, sizeof(bytes), flags);
	while (n < 0 && errno == EINTR);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		exit(0);
	return n > 0 ? json_loadb(bytes, (size_t)n, 0, NULL) : NULL;
}

static void packets_take(struct acme_client *c)
{
	json_t *packet;

	while ((packet = packet_read(MSG_DONTWAIT)) != NULL) {
		if (json_object_get(packet, "renew") != NULL) {
			c->renew = true;
			c->new_key |= json_is_true(json_object_get(packet, "renew"));
		}
		c->ready |= json_object_get(packet, "ready") != NULL;
		json_decref(packet);
	}
}

void acme_client_turn(struct acme_client *c, int ms)
{
	struct curl_waitfd wait[1 + ACME_ANSWER_FDS] = {
		{.fd = COMPANION_FD, .events = CURL_WAIT_POLLIN}};
	struct pollfd fds[ACME_ANSWER_FDS];
	size_t n = c->answer != NULL ? acme_answer_fds(c->answer, fds) : 0;

	for (size_t i = 0; i < n; i++)
		wait[1 + i] = (struct curl_waitfd){.fd = fds[i].fd, .events = CURL_WAIT_POLLIN};
	if (curl_multi_poll(c->multi, wait, (unsigned)(n + 1), ms, NULL) != CURLM_OK)
		exit(1);
	packets_take(c);
	if (c->answer != NULL)
		acme_answer_turn(c->answer, acme_client_clock());
}

time_t acme_client_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* When something is tried next, by the wall clock as it is now. */
static time_t next_of(const struct acme_client *c)
{
	time_t now = time(NULL), left = c->pause - acme_client_clock();

	now += left > 0 ? left : 0;
	return c->due > now ? c->due : now;
}

static bool is_due(const struct acme_client *c)
{
	return c->renew || (acme_client_clock() >= c->pause && time(NULL) >= c->due);
}

static void status_say(struct acme_client *c, const char *state)
{
	acme_client_say(c,
			json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "event",
				  "status", "state", state, "next", (json_int_t)next_of(c),
				  "failures", (json_int_t)c->failures, "early",
				  (json_int_t)c->early, "issued", (json_int_t)c->issued, "failed",
				  (json_int_t)c->failed, "not_after", (json_int_t)c->pair.not_after,
				  "last_error", acme_text_json(c->last_error)));
}

/* ---- one attempt ---- */

static int attempt(struct acme_client *c, struct alk_err *err)
{
	int rc = acme_account_open(c, err);

	if (rc == 0 && c->new_key)
		rc = acme_account_rekey(c, err);
	if (rc == 0)
		c->new_key = false;
	return rc < 0 ? rc : acme_order_run(c, err);
}

static void renewed(struct acme_client *c)
{
	time_t wait;

	c->issued++;
	c->failures = 0;
	c->last_error[0] = '\0';
	c->due = acme_renewal_time(&c->pair);
	c->pause = 0;
	/* One that is past two thirds of its life when it comes, or this clock is wrong. */
	c->early = time(NULL) >= c->due ? c->early + 1 : 0;
	if (c->early == 0) {
		acme_backoff_clear(c);
		return;
	}
	wait = acme_renewal_backoff(c->early);
	c->pause = acme_client_clock() + wait;
	acme_backoff_keep(c, 0, wait, "");
}

static void failed(struct acme_client *c, bool asked, const char *error)
{
	time_t now = acme_client_clock();

	c->failed++;
	c->failures++;
	snprintf(c->last_error, sizeof(c->last_error), "%s", error);
	c->due = 0;
	c->pause = now + acme_renewal_backoff(c->failures);
	if (c->pause < c->retry_after)
		c->pause = c->retry_after;
	if (asked)
		acme_backoff_keep(c, c->failures, c->pause - now, c->last_error);
}

static void renew(struct acme_client *c)
{
	struct alk_err err = {""};
	bool asked;
	int rc;

	c->retry_after = 0;
	status_say(c, "ordering");
	/* Before the CA counts an order that nothing comes of. */
	rc = acme_state_check(c->state_dir, &err);
	asked = rc == 0;
	if (asked) {
		/* If the server ends meanwhile it has failed. */
		acme_backoff_keep(c, c->failures + 1, acme_renewal_backoff(c->failures + 1),
				  CUT_OFF);
		rc = attempt(c, &err);
	}
	if (rc == 0 && c->new_key) /* asked for meanwhile */
		rc = acme_account_rekey(c, &err);
	/* Whoever asked is answered: what comes by itself is a certificate alone. */
	c->renew = c->new_key = false;
	if (rc == 0)
		renewed(c);
	else
		failed(c, asked, err.text);
	status_say(c, "waiting");
	acme_client_say(c, json_pack("{s:s, s:o}", "event", "done", "error",
				     rc < 0 ? acme_text_json(c->last_error) : json_null()));
}

/* ---- start ---- */

static void certificate_load(struct acme_client *c)
{
	struct alk_err err = {""};
	char *pem = NULL;
	int rc = acme_state_read(c->state_dir, ACME_CERTIFICATE, &pem, &err);

	if (rc == 0)
		rc = acme_pair_read(pem, c->names, &c->pair, &err);
	if (rc == 0 && c->pair.for_names) {
		json_t *event = acme_certificate_event(pem, true);

		/* The supervisor may have another one: the helper before was ended between
		 * disk and word, or belonged to a reload that was refused. */
		if (event != NULL)
			acme_client_say(c, event);
		c->due = acme_renewal_time(&c->pair);
	}
	acme_text_free(&pem);
}

/* One process a directory: the one before may be about to end. */
static int state_lock(struct acme_client *c, struct alk_err *err)
{
	int fd = open(c->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return alk_err_set(err, -errno, "acme_state_dir: %s: %s", c->state_dir,
				   strerror(errno));
	for (unsigned i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
		if (errno != EWOULDBLOCK)
			return alk_err_set(err, -errno, "acme_state_dir: %s cannot be locked: %s",
					   c->state_dir, strerror(errno));
		if (i == 100)
			acme_client_notice(c, "acme_state_dir: %s is in use by another server",
					   c->state_dir);
		acme_client_turn(c, LOCK_MS);
	}
	return 0;
}

static int privileges_drop(const char *dir, struct alk_err *err)
{
	struct rlimit none = {0, 0};
	struct stat st;

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (geteuid() == 0) {
		if (stat(dir, &st) != 0)
			return alk_err_set(err, -errno, "acme_state_dir: %s: %s", dir,
					   strerror(errno));
		if (st.st_uid != 0 &&
		    (setgroups(0, NULL) != 0 || setresgid(st.st_gid, st.st_gid, st.st_gid) != 0 ||
		     setresuid(st.st_uid, st.st_uid, st.st_uid) != 0))
			return alk_err_set(err, -errno,
					   "alknet-acme cannot become the owner of %s: %s", dir,
					   strerror(errno));
	}
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}

/* What the CA counts goes on when a helper ends: failures, and what is waited for. One that ended in
 * an attempt has failed. */
static void past_take(struct acme_client *c, const json_t *past)
{
	json_int_t failures = json_integer_value(json_object_get(past, "failures"));
	json_int_t early = json_integer_value(json_object_get(past, "early"));
	json_int_t left = json_integer_value(json_object_get(past, "next")) - time(NULL);

	c->failures = failures > 0 && failures < UINT_MAX ? (unsigned)failures : 0;
	c->early = early > 0 && early < UINT_MAX ? (unsigned)early : 0;
	snprintf(c->last_error, sizeof(c->last_error), "%s", acme_text_of(past, "last_error"));
	if (strcmp(acme_text_of(past, "state"), "ordering") == 0) {
		c->failures++;
		c->failed++;
		snprintf(c->last_error, sizeof(c->last_error), CUT_OFF);
		left = acme_renewal_backoff(c->failures);
	}
	if (left > ACME_RETRY_AFTER_MAX)
		left = ACME_RETRY_AFTER_MAX;
	if ((c->failures > 0 || c->early > 0) && left > 0)
		c->pause = acme_client_clock() + left;
}

static int settings_read(struct acme_client *c, const char **http)
{
	json_t *start = packet_read(0);

	c->settings = json_incref(json_object_get(start, "start"));
	past_take(c, json_object_get(start, "past"));
	json_decref(start);
	return json_unpack(c->settings, "{s:s, s?:s, s?:s, s:s, s:s, s:s, s:o}", "directory",
			   &c->directory_url, "email", &c->email, "ca", &c->ca, "state_dir",
			   &c->state_dir, "challenge", &c->challenge, "http", http, "names",
			   &c->names);
}

static int client_start(struct acme_client *c, struct alk_err *err)
{
	const char *http;
	int rc;

	if (settings_read(c, &http) < 0)
		return alk_err_set(err, -EINVAL, "the settings are no settings");
	if (strcmp(c->challenge, "http-01") == 0 && strcmp(http, ACME_HTTP_STEALTH) != 0 &&
	    (c->answer = acme_answer_open(http, err)) == NULL)
		return -EIO;
	rc = privileges_drop(c->state_dir, err);
	if (rc == 0)
		rc = acme_wire_init(c, err);
	return rc < 0 ? rc : state_lock(c, err);
}

/* For who wonders why nothing happens after a start. */
static void backoff_say(struct acme_client *c)
{
	time_t next = next_of(c);
	char at[32];
	struct tm tm;

	if (next <= c->due)
		return;
	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&next, &tm));
	acme_client_notice(
		c,
		"the CA is not asked before %s, because of an attempt before the start (alknet-admin acme renew asks now): %s",
		at, c->failures > 0 ? c->last_error : "the certificate was due when it came");
}

/* The CA is asked while there is time; its word counts more than two thirds. */
static void window_look(struct acme_client *c, time_t *again)
{
	time_t due;

	if (*again == 0 || c->pair.not_after == 0 || acme_client_clock() < *again ||
	    c->failures > 0)
		return;
	due = acme_renewal_ask(c, again);
	if (due == 0 || due == c->due)
		return;
	c->due = due;
	status_say(c, "waiting");
}

static int turn_ms(const struct acme_client *c)
{
	time_t left = next_of(c) - time(NULL);

	if (left < 1)
		return 1000;
	return left < TURN_MS / 1000 ? (int)left * 1000 : TURN_MS;
}

int main(void)
{
	struct acme_client c = {0};
	struct alk_err err = {""};
	time_t again = 1;
	bool waits;

	if (client_start(&c, &err) < 0) {
		c.failures++;
		c.failed++;
		snprintf(c.last_error, sizeof(c.last_error), "%s", err.text);
		status_say(&c, "ended");
		acme_client_say(&c, json_pack("{s:s, s:o}", "event", "done", "error",
					      acme_text_json(err.text)));
		json_decref(c.settings);
		return 1;
	}
	waits = acme_backoff_load(&c);
	certificate_load(&c);
	if (c.failures > 0) /* as whoever failed left it: tried again behind the pause */
		c.due = 0;
	status_say(&c, "waiting");
	if (waits)
		backoff_say(&c);
	for (;;) {
		if (is_due(&c)) {
			renew(&c);
			again = 1;
			continue;
		}
		window_look(&c, &again);
		if (!is_due(&c))
			acme_client_turn(&c, turn_ms(&c));
	}
}
