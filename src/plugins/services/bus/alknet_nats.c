/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* alknet-nats: the program between the hub and NATS. libnats has threads and waits; here that hurts
 * nobody. It is told what to do on descriptor COMPANION_FD and ends when that does. Messages of all
 * subscriptions are handed on by one thread, in the order in which they came. */
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <unistd.h>
#include <jansson.h>
#include "../../common/companion.h"
#include "../common/frame.h"
#include "../common/topic.h"
#include "alknet_nats.h"

#define BUCKETS 4096
#define RECONNECT_BUFFER (1 << 20)
#define RETRY_MIN_MS 100
#define CREDENTIALS_MAX ((size_t)64 << 10)
#define DRAINS_MAX 64 /* each is a thread of libnats's */
#define DRAINS_SECOND 256
#define DRAIN_MS 2000
#define WRITE_MS 10000 /* a write that stands still holds up all that libnats has timers for */
#define ACK_MS 10000   /* for JetStream to say that it keeps an event: a leader may change */

struct sub {
	LIST_ENTRY(sub) entry;
	uint64_t id, kind;
	char *prefix;
	natsSubscription *nats;
	bool drains;
};

struct alknet_nats alknet_nats;
static atomic_int drains;
static LIST_HEAD(, sub) subs[BUCKETS]; /* by id */
/* The durable event that is being handed over. libnats lists it before it writes it, so that another
 * thread may be told how it ended meanwhile; that one must not free it. */
static pthread_mutex_t durable_lock = PTHREAD_MUTEX_INITIALIZER;
static const natsMsg *durable_now;
static bool durable_ended; /* that one */
static bool durable_said;  /* libnats has a list */
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- to the hub ------------------------------------------------------------------------------ */

static bool write_all(const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	while (n > 0) {
		ssize_t some = write(COMPANION_FD, at, n);

		if (some < 0 && errno == EINTR)
			continue;
		if (some <= 0)
			return false;
		at += some;
		n -= (size_t)some;
	}
	return true;
}

/* Without a hub there is no reason to stay. */
void alknet_nats_say(struct wire_out *out)
{
	uint32_t n = (uint32_t)out->n;
	bool said;

	if (!out->bad) {
		pthread_mutex_lock(&out_lock);
		said = write_all(&n, sizeof(n)) && write_all(out->bytes, out->n);
		pthread_mutex_unlock(&out_lock);
		if (!said)
			_exit(0);
	}
	wire_free(out);
}

void alknet_nats_begin(struct wire_out *out, enum nats_op op)
{
	wire_begin(out, (enum wire_op)op);
}

/* `payload_max` is NATS's, of a message with its headers. */
static void say_state(bool connected, int64_t payload_max, const char *text)
{
	struct wire_out out;

	alknet_nats_begin(&out, NATS_STATE);
	wire_number(&out, connected);
	wire_number(&out, payload_max > 0 ? (uint64_t)payload_max : 0);
	wire_text(&out, text);
	alknet_nats_say(&out);
}

void alknet_nats_say_lost(uint64_t n, const char *text)
{
	struct wire_out out;

	alknet_nats_begin(&out, NATS_LOST);
	wire_number(&out, n);
	wire_text(&out, text);
	alknet_nats_say(&out);
}

static void say_failed(const char *origin, const char *text)
{
	struct wire_out out;

	alknet_nats_begin(&out, NATS_FAILED);
	wire_text(&out, origin);
	wire_text(&out, text);
	alknet_nats_say(&out);
}

/* ---- what comes from NATS -------------------------------------------------------------------- */

/* Is it an envelope, of this subject? Then its topic; else what is wrong. */
static const char *envelope_read(const uint8_t *frame, size_t n, const char *prefix,
				 const char *subject, char topic[600])
{
	struct frame_reader reader;
	struct frame envelope = {NULL};
	struct alk_err err = {""};
	const char *wrong = NULL;
	char expected[2048];
	size_t taken;

	frame_reader_init(&reader, NATS_MESSAGE_MAX / 2);
	if (frame_feed(&reader, frame, n, &taken, &err) != 1 ||
	    frame_parse(&reader, &envelope, &err) < 0) {
		wrong = "a message is no envelope";
	} else if (topic_check_event(envelope.type, envelope.id, &err) < 0) {
		wrong = "a message has a type or an id that no event may have";
	} else if (prefix != NULL) {
		snprintf(expected, sizeof(expected), "%s", prefix);
		if (!nats_subject_add(expected, sizeof(expected), envelope.type, false) ||
		    strcmp(expected, subject) != 0)
			wrong = "a message's type is not its subject";
	}
	if (wrong == NULL)
		snprintf(topic, 600, "%s%s%s", envelope.type, *envelope.id != '\0' ? ":" : "",
			 envelope.id);
	frame_clear(&envelope);
	frame_reader_clear(&reader);
	return wrong;
}

const char *alknet_nats_put_frame(struct wire_out *out, const void *body, size_t n,
				  const char *prefix, const char *subject)
{
	uint8_t *frame;
	char topic[600];
	const char *wrong;

	if (n == 0 || n > NATS_MESSAGE_MAX / 2)
		return "a message is empty or too long";
	frame = malloc(n + 4);
	if (frame == NULL)
		return "out of memory";
	frame[0] = (uint8_t)(n >> 24);
	frame[1] = (uint8_t)(n >> 16);
	frame[2] = (uint8_t)(n >> 8);
	frame[3] = (uint8_t)n;
	memcpy(frame + 4, body, n);
	wrong = envelope_read(frame, n + 4, prefix, subject, topic);
	if (wrong == NULL) {
		wire_text(out, topic);
		wire_bytes(out, frame, n + 4);
	}
	free(frame);
	return wrong;
}

/* The text as jansson writes it, so that it has an end. What is no JSON, or too long, has a status
 * that says so: somebody waits for what comes of it. */
static void put_json(struct wire_out *out, const char *status, const char *body, size_t n)
{
	struct alk_err ignored;
	json_t *json = json_null();
	char *text;

	if (n > 0)
		json = n <= NATS_MESSAGE_MAX / 2 &&
				       frame_text_check((const uint8_t *)body, n, &ignored) == 0
			       ? json_loadb(body, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL)
			       : NULL;
	text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	json_decref(json);
	if (text != NULL && strlen(text) > NATS_MESSAGE_MAX / 2) {
		free(text);
		text = NULL;
	}
	wire_text(out, text != NULL ? status : NATS_STATUS_NO_JSON);
	wire_text(out, "");
	wire_text(out, text != NULL ? text : "null");
	free(text);
}

static const char *header(natsMsg *msg, const char *name)
{
	const char *value = NULL;

	return natsMsgHeader_Get(msg, name, &value) == NATS_OK && value != NULL ? value : "";
}

static void on_message(natsConnection *nc, natsSubscription *nats, natsMsg *msg, void *user)
{
	const struct sub *sub = user;
	const char *subject = natsMsg_GetSubject(msg), *reply = natsMsg_GetReply(msg);
	const char *status = natsMsg_IsNoResponders(msg) ? NATS_STATUS_NOBODY : "", *wrong = NULL;
	const char *body = natsMsg_GetData(msg);
	size_t n = (size_t)natsMsg_GetDataLength(msg);
	struct wire_out out;

	(void)nc, (void)nats;
	alknet_nats_begin(&out, NATS_MSG);
	wire_number(&out, sub->id);
	wire_text(&out, subject);
	wire_text(&out, reply != NULL ? reply : "");
	wire_text(&out, header(msg, "Alknet-From"));
	wire_text(&out, header(msg, "Alknet-Type"));
	wire_text(&out, header(msg, "Alknet-Identity"));
	if (sub->kind == NATS_KIND_JSON) {
		put_json(&out, status, body, n);
	} else {
		wire_text(&out, status);
		wrong = alknet_nats_put_frame(&out, body, n,
					      sub->kind == NATS_KIND_EVENT ? sub->prefix : NULL,
					      subject);
	}
	if (wrong == NULL && out.n > NATS_MESSAGE_MAX)
		wrong = "a message has headers that are too long";
	if (wrong != NULL) {
		wire_free(&out);
		alknet_nats_say_lost(1, wrong);
	} else {
		alknet_nats_say(&out);
	}
	natsMsg_Destroy(msg);
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *user)
{
	(void)nc, (void)sub, (void)user;
	alknet_nats_say_lost(0, natsStatus_GetText(status));
}

static void on_connected(natsConnection *nc, void *user)
{
	char url[256] = "";

	(void)user;
	alknet_nats_stream_wait();
	natsConnection_GetConnectedUrl(nc, url, sizeof(url));
	/* A password may be in it. */
	say_state(true, natsConnection_GetMaxPayload(nc),
		  strrchr(url, '@') != NULL ? strrchr(url, '@') + 1 : url);
}

/* `why` NULL: it is kept. Takes `msg`. */
static void durable_end(natsMsg *msg, const char *why)
{
	bool now;

	if (why != NULL)
		say_failed(header(msg, "Alknet-Origin"), why);
	pthread_mutex_lock(&durable_lock);
	now = msg == durable_now;
	durable_ended |= now;
	pthread_mutex_unlock(&durable_lock);
	if (!now)
		natsMsg_Destroy(msg);
}

/* Nobody acknowledges what was under way any more. It may have been stored all the same. */
static void durable_fail(void)
{
	natsMsgList list = {NULL, 0};
	bool said;

	pthread_mutex_lock(&durable_lock);
	said = durable_said;
	pthread_mutex_unlock(&durable_lock);
	if (said) /* libnats does not ask itself whether it has one */
		js_PublishAsyncGetPendingList(&list, alknet_nats.js);
	for (int i = 0; i < list.Count; i++) {
		durable_end(list.Msgs[i], "NATS went away");
		list.Msgs[i] = NULL;
	}
	natsMsgList_Destroy(&list);
}

static void on_disconnected(natsConnection *nc, void *user)
{
	const char *text = NULL;

	(void)user;
	durable_fail();
	natsConnection_GetLastError(nc, &text);
	say_state(false, 0, text != NULL && *text != '\0' ? text : "the connection ended");
}

static void on_closed(natsConnection *nc, void *user)
{
	on_disconnected(nc, user);
	_exit(1); /* the hub starts another one */
}

static int64_t retry_after(natsConnection *nc, int attempts, void *user)
{
	int64_t ms = RETRY_MIN_MS;

	(void)nc, (void)user;
	while (--attempts > 0 && ms < ALKNET_NATS_RETRY_MAX_MS)
		ms *= 2;
	return ms < ALKNET_NATS_RETRY_MAX_MS ? ms : ALKNET_NATS_RETRY_MAX_MS;
}

/* Once for each event, unless durable_fail() has taken it: acknowledged, refused, or too late. */
static void on_acked(jsCtx *ctx, natsMsg *msg, jsPubAck *ack, jsPubAckErr *error, void *user)
{
	const char *why = NULL;

	(void)ctx, (void)ack, (void)user;
	if (error != NULL && error->Err == NATS_TIMEOUT)
		why = "NATS did not acknowledge it in time";
	else if (error != NULL)
		why = error->ErrText != NULL ? error->ErrText : natsStatus_GetText(error->Err);
	durable_end(msg, why);
}

/* ---- what the hub says ----------------------------------------------------------------------- */

static void __attribute__((noreturn)) fatal_text(const char *what, const char *why)
{
	char text[256];

	snprintf(text, sizeof(text), "%s: %s", what, why);
	say_state(false, 0, text);
	_exit(1);
}

static void __attribute__((noreturn)) fatal(const char *what, natsStatus status)
{
	fatal_text(what, natsStatus_GetText(status));
}

/* The file of a user is for its owner alone, and every connect needs it: kept, because rights are
 * dropped. */
static char *user_token, *user_seed;

static natsStatus on_token(char **token, char **error, void *user)
{
	(void)error, (void)user;
	*token = strdup(user_token);
	return *token != NULL ? NATS_OK : NATS_NO_MEMORY;
}

static natsStatus on_nonce(char **error, unsigned char **signature, int *n, const char *nonce,
			   void *user)
{
	(void)error, (void)user;
	return nats_Sign(user_seed, nonce, signature, n);
}

/* The line behind the one that has these words. */
static char *credentials_line(char *text, const char *words)
{
	char *at = strstr(text, words);

	at = at != NULL ? strchr(at, '\n') : NULL;
	if (at == NULL)
		return NULL;
	at += strspn(at, "\r\n");
	return strndup(at, strcspn(at, "\r\n"));
}

static natsStatus credentials_use(natsOptions *o, const char *path)
{
	char text[CREDENTIALS_MAX + 1];
	FILE *file = fopen(path, "re");
	size_t n = 0;

	if (file == NULL) {
		fatal_text("backend_credentials", strerror(errno));
	} else {
		n = fread(text, 1, CREDENTIALS_MAX, file);
		fclose(file);
	}
	text[n] = '\0';
	user_token = credentials_line(text, "-BEGIN NATS USER JWT-");
	user_seed = credentials_line(text, "-BEGIN USER NKEY SEED-");
	explicit_bzero(text, sizeof(text));
	if (user_token == NULL || user_seed == NULL)
		fatal_text("backend_credentials", "it is no .creds file");
	return natsOptions_SetUserCredentialsCallbacks(o, on_token, NULL, on_nonce, NULL);
}

/* Where one address wants TLS no server gets a word without it. */
static bool wants_tls(const char *urls)
{
	return strncmp(urls, "tls://", 6) == 0 || strstr(urls, ",tls://") != NULL;
}

static natsStatus options_fill(natsOptions *o, char *urls, const char *credentials, const char *ca)
{
	const char *list[32];
	bool secure = wants_tls(urls);
	int n = 0;
	natsStatus s;

	for (char *url; n < 32 && (url = strsep(&urls, ",")) != NULL;)
		if (*url != '\0')
			list[n++] = url;
	s = natsOptions_SetServers(o, list, n);
	if (s == NATS_OK)
		s = natsOptions_SetName(o, "alknet");
	if (s == NATS_OK)
		s = natsOptions_SetMaxReconnect(o, -1);
	if (s == NATS_OK)
		s = natsOptions_SetCustomReconnectDelay(o, retry_after, NULL);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectBufSize(o, RECONNECT_BUFFER);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(o, 5000);
	if (s == NATS_OK)
		s = natsOptions_SetMaxPingsOut(o, 2);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(o, WRITE_MS);
	if (s == NATS_OK)
		s = natsOptions_UseGlobalMessageDelivery(o, true);
	if (s == NATS_OK)
		s = natsOptions_SetDisconnectedCB(o, on_disconnected, NULL);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectedCB(o, on_connected, NULL);
	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(o, on_closed, NULL);
	if (s == NATS_OK)
		s = natsOptions_SetErrorHandler(o, on_error, NULL);
	if (s == NATS_OK && *credentials != '\0')
		s = credentials_use(o, credentials);
	if (s == NATS_OK && secure)
		s = natsOptions_SetSecure(o, true);
	if (s == NATS_OK && *ca != '\0')
		s = natsOptions_LoadCATrustedCertificates(o, ca);
	return s;
}

/* It speaks with the network, and has no use for rights. */
static void privileges_drop(void)
{
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
		fatal_text("the rights of root", strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* which another user takes away */
}

/* Once on the spot, because only this way the library tells why not; then again and again. */
static natsStatus connect_first(natsOptions *o)
{
	natsStatus s = natsConnection_Connect(&alknet_nats.connection, o);
	const char *text;

	if (s == NATS_OK)
		return s;
	text = nats_GetLastError(NULL);
	say_state(false, 0, text != NULL && *text != '\0' ? text : natsStatus_GetText(s));
	s = natsOptions_SetRetryOnFailedConnect(o, true, on_connected, NULL);
	return s == NATS_OK ? natsConnection_Connect(&alknet_nats.connection, o) : s;
}

static void do_start(struct wire_in *in)
{
	char *urls = strdup(wire_get_text(in));
	const char *credentials = wire_get_text(in), *ca = wire_get_text(in);
	natsOptions *o = NULL;
	natsStatus s = natsOptions_Create(&o);
	jsOptions options;
	jsCtx *made = NULL;

	if (s == NATS_OK && urls != NULL)
		s = options_fill(o, urls, credentials, ca);
	if (s != NATS_OK)
		fatal("the options of NATS", s);
	privileges_drop(); /* all files have been read */
	s = connect_first(o);
	if (s != NATS_OK && s != NATS_NOT_YET_CONNECTED)
		fatal("NATS", s);
	if (s == NATS_OK)
		on_connected(alknet_nats.connection, NULL);
	jsOptions_Init(&options);
	options.Wait = ALKNET_NATS_WAIT_MS;
	options.PublishAsync.AckHandler = on_acked;
	s = natsConnection_JetStream(&made, alknet_nats.connection, &options);
	if (s != NATS_OK)
		fatal("JetStream", s);
	alknet_nats.js = made;
	natsOptions_Destroy(o);
	free(urls);
}

static void sub_free(struct sub *sub)
{
	LIST_REMOVE(sub, entry);
	free(sub->prefix);
	free(sub);
}

static void do_sub(struct wire_in *in)
{
	struct sub *sub = calloc(1, sizeof(*sub));
	const char *subject, *queue;
	natsStatus s;

	if (sub == NULL)
		_exit(1);
	sub->id = wire_get_number(in);
	sub->kind = wire_get_number(in);
	subject = wire_get_text(in);
	queue = wire_get_text(in);
	sub->prefix = strdup(wire_get_text(in));
	LIST_INSERT_HEAD(&subs[sub->id % BUCKETS], sub, entry);
	if (*queue != '\0')
		s = natsConnection_QueueSubscribe(&sub->nats, alknet_nats.connection, subject,
						  queue, on_message, sub);
	else
		s = natsConnection_Subscribe(&sub->nats, alknet_nats.connection, subject,
					     on_message, sub);
	if (s != NATS_OK) {
		alknet_nats_say_lost(0, natsStatus_GetText(s));
		sub->nats = NULL;
		sub_free(sub);
		return;
	}
	natsSubscription_SetPendingLimits(sub->nats, -1, (int)NATS_MESSAGE_MAX * 4);
}

/* Once no callback of it can run any more. Only here is the subscription given back: before it was
 * drained that would end it at once. */
static void on_sub_done(void *user)
{
	struct sub *sub = user;

	if (sub->drains)
		drains--;
	natsSubscription_Destroy(sub->nats);
	free(sub->prefix);
	free(sub);
}

static bool drain_may(void)
{
	static int64_t second;
	static int
		begun; /* in it: each is a thread, and thousands that go at once would be held up */
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec != second)
		begun = 0;
	second = now.tv_sec;
	if (drains >= DRAINS_MAX || begun >= DRAINS_SECOND)
		return false;
	begun++;
	return true;
}

/* Unsubscribe throws away what has come, or is on its way: calls that somebody waits for, and that
 * the hub answers when it is too late for them. */
static bool sub_drain(struct sub *sub)
{
	if (sub->kind != NATS_KIND_JSON || !drain_may())
		return false;
	drains++; /* before `sub` is the other thread's */
	sub->drains = true;
	if (natsSubscription_DrainTimeout(sub->nats, DRAIN_MS) == NATS_OK)
		return true;
	drains--;
	sub->drains = false;
	return false;
}

static void do_unsub(struct wire_in *in)
{
	uint64_t id = wire_get_number(in);
	struct sub *sub;

	LIST_FOREACH(sub, &subs[id % BUCKETS], entry)
	{
		if (sub->id == id)
			break;
	}
	if (sub == NULL)
		return;
	LIST_REMOVE(sub, entry);
	natsSubscription_SetOnCompleteCB(sub->nats, on_sub_done, sub);
	if (!sub_drain(sub))
		natsSubscription_Unsubscribe(sub->nats);
}

static natsStatus msg_make(natsMsg **msg, const char *const headers[6], const char *subject,
			   const char *reply, const uint8_t *body, size_t n)
{
	natsStatus s = natsMsg_Create(msg, subject, *reply != '\0' ? reply : NULL,
				      (const char *)body, (int)n);

	for (int i = 0; s == NATS_OK && i < 6; i += 2)
		if (*headers[i + 1] != '\0')
			s = natsMsgHeader_Set(*msg, headers[i], headers[i + 1]);
	return s;
}

/* What libnats does not take, or has ended already, is the caller's again. */
static natsStatus durable_publish(natsMsg **msg)
{
	natsMsg *given = *msg;
	jsPubOptions options;
	natsStatus s;

	jsPubOptions_Init(&options);
	options.MaxWait = ACK_MS;
	pthread_mutex_lock(&durable_lock);
	durable_now = given;
	durable_ended = false;
	pthread_mutex_unlock(&durable_lock);
	s = js_PublishMsgAsync(alknet_nats.js, msg, &options);
	pthread_mutex_lock(&durable_lock);
	durable_now = NULL;
	durable_said |= s == NATS_OK;
	if (durable_ended)
		*msg = given;
	pthread_mutex_unlock(&durable_lock);
	return s;
}

static void do_pub(struct wire_in *in)
{
	const char *subject = wire_get_text(in), *reply = wire_get_text(in);
	const char *from = wire_get_text(in), *type = wire_get_text(in);
	const char *identity = wire_get_text(in);
	const char *headers[6] = {"Alknet-From",     from,    "Alknet-Type", type,
				  "Alknet-Identity", identity};
	size_t n;
	const uint8_t *body = wire_get_bytes(in, &n);
	const char *origin = wire_get_text(in);
	bool durable = wire_get_number(in) != 0;
	natsMsg *msg = NULL;
	natsStatus s;

	if (!wire_done(in))
		_exit(1);
	s = msg_make(&msg, headers, subject, reply, body, n);
	if (s == NATS_OK && durable && *origin != '\0')
		s = natsMsgHeader_Set(msg, "Alknet-Origin", origin);
	if (s == NATS_OK)
		s = durable ? durable_publish(&msg)
			    : natsConnection_PublishMsg(alknet_nats.connection, msg);
	if (s != NATS_OK)
		say_failed(origin, natsStatus_GetText(s));
	natsMsg_Destroy(msg);
}

/* ---- the program ----------------------------------------------------------------------------- */

static bool read_all(void *bytes, size_t n)
{
	uint8_t *at = bytes;

	while (n > 0) {
		ssize_t some = read(COMPANION_FD, at, n);

		if (some < 0 && errno == EINTR)
			continue;
		if (some <= 0)
			return false;
		at += some;
		n -= (size_t)some;
	}
	return true;
}

static void hear(const uint8_t *bytes, size_t n)
{
	struct wire_in in;
	enum nats_op op = (enum nats_op)wire_open(&in, bytes, n);

	if (op == NATS_START && alknet_nats.connection == NULL)
		do_start(&in);
	else if (alknet_nats.connection == NULL)
		_exit(1);
	else if (op == NATS_SUB)
		do_sub(&in);
	else if (op == NATS_UNSUB)
		do_unsub(&in);
	else if (op == NATS_PUB)
		do_pub(&in);
	else if (op == NATS_STREAM)
		alknet_nats_stream_set(&in);
	else if (op == NATS_PAST)
		alknet_nats_past_start(&in);
	else if (op == NATS_UNPAST)
		alknet_nats_past_stop(&in);
}

int main(void)
{
	uint8_t *message = NULL;
	uint32_t n;

	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* before there are threads: it is each one's own */
	if (nats_Open(-1) != NATS_OK || nats_SetMessageDeliveryPoolSize(1) != NATS_OK)
		return 1;
	while (read_all(&n, sizeof(n)) && n <= NATS_MESSAGE_MAX) {
		free(message);
		message = malloc(n);
		if (message == NULL || !read_all(message, n))
			break;
		hear(message, n);
	}
	return 0;
}
