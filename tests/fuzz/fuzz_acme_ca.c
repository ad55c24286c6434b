/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All that a CA may say, from its directory to the certificate and the time of the next one:
 * answers one behind the other, parted by the byte 0x1e, each of them a status, headers, an empty
 * line and a body. The first byte of the input says how many bytes of a body come at a time (lower
 * 4 bits, 0: all), and whether a key of the account is changed (16) or was being changed (32).
 * libcurl, the disk and the clock are this file. */
#include "../../src/plugins/transports/tls/acme_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define START ((time_t)1767225600)
#define INPUT_MAX 16384
#define ASKED_MAX 2000

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static struct {
	const uint8_t *at, *end;
	size_t step;
	unsigned asked;
	uint64_t clock_ms;
	bool next_key, done;
	unsigned proofs, certificates;
	/* What libcurl was told. */
	bool https;
	curl_write_callback body, header;
	void *body_user, *header_user;
	CURLMsg msg;
	long status;
	curl_off_t after;
} play;

static EVP_PKEY *account;

static void require(int yes)
{
	if (!yes)
		abort();
}

/* ---- the clock, the disk, the supervisor ---- */

time_t time(time_t *at)
{
	time_t now = START + (time_t)(play.clock_ms / 1000);

	if (at != NULL)
		*at = now;
	return now;
}

time_t acme_client_clock(void)
{
	return 1000 + (time_t)(play.clock_ms / 1000);
}

void acme_text_free(char **text)
{
	free(*text);
	*text = NULL;
}

int acme_state_write(const char *dir, const char *name, const char *text, struct alk_err *err)
{
	(void)dir, (void)err;
	require(text[0] != '\0');
	play.next_key |= strcmp(name, ACME_ACCOUNT_NEXT) == 0;
	return 0;
}

int acme_state_rename(const char *dir, const char *from, const char *to, struct alk_err *err)
{
	(void)dir, (void)err;
	require(play.next_key && strcmp(from, ACME_ACCOUNT_NEXT) == 0 &&
		strcmp(to, ACME_ACCOUNT) == 0);
	play.next_key = false;
	return 0;
}

void acme_state_remove(const char *dir, const char *name)
{
	(void)dir;
	require(strcmp(name, ACME_ACCOUNT_NEXT) == 0);
	play.next_key = false;
}

int acme_account_read(const char *dir, const char *name, EVP_PKEY **key, struct alk_err *err)
{
	(void)dir, (void)err;
	*key = NULL;
	if (strcmp(name, ACME_ACCOUNT) == 0 || play.next_key) {
		EVP_PKEY_up_ref(account);
		*key = account;
	}
	return 0;
}

void acme_client_turn(struct acme_client *c, int ms)
{
	play.clock_ms += ms > 0 ? (uint64_t)ms : 1;
	c->ready = true;
}

void acme_client_say(struct acme_client *c, json_t *event)
{
	const char *what = acme_text_of(event, "event");

	(void)c;
	require(event != NULL && strlen(acme_text_of(event, "pem")) < ACME_PEM_MAX);
	if (strcmp(what, "challenge") == 0)
		play.proofs += json_is_string(json_object_get(event, "pem")) ? 1 : -1u;
	else
		play.certificates += strcmp(what, "certificate") == 0;
	require(play.proofs <= 1);
	json_decref(event);
}

void acme_client_notice(struct acme_client *c, const char *fmt, ...)
{
	(void)c;
	require(fmt[0] != '\0');
}

/* ---- libcurl ---- */

#undef curl_easy_setopt
#undef curl_easy_getinfo

CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
	va_list ap;

	(void)easy;
	va_start(ap, option);
	if (option == CURLOPT_URL) {
		require(strlen(va_arg(ap, const char *)) <= INPUT_MAX + 1024);
	} else if (option == CURLOPT_PROTOCOLS_STR) {
		play.https = strcmp(va_arg(ap, const char *), "https") == 0;
	} else if (option == CURLOPT_WRITEFUNCTION) {
		play.body = va_arg(ap, curl_write_callback);
	} else if (option == CURLOPT_HEADERFUNCTION) {
		play.header = va_arg(ap, curl_write_callback);
	} else if (option == CURLOPT_WRITEDATA) {
		play.body_user = va_arg(ap, void *);
	} else if (option == CURLOPT_HEADERDATA) {
		play.header_user = va_arg(ap, void *);
	}
	va_end(ap);
	return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...)
{
	va_list ap;

	(void)easy;
	va_start(ap, info);
	if (info == CURLINFO_RESPONSE_CODE)
		*va_arg(ap, long *) = play.status;
	else if (info == CURLINFO_RETRY_AFTER)
		*va_arg(ap, curl_off_t *) = play.after;
	va_end(ap);
	return CURLE_OK;
}

/* A line with its end, or what is left. */
static size_t line_len(const uint8_t *at, const uint8_t *end)
{
	const uint8_t *lf = memchr(at, '\n', (size_t)(end - at));

	return (size_t)((lf != NULL ? lf + 1 : end) - at);
}

static void headers_play(const uint8_t **at, const uint8_t *end)
{
	while (*at < end) {
		char line[1024];
		size_t len = line_len(*at, end),
		       n = len < sizeof(line) - 1 ? len : sizeof(line) - 1;

		memcpy(line, *at, n);
		line[n] = '\0';
		*at += len;
		if (line[0] == '\n')
			return;
		if (strncasecmp(line, "Retry-After:", 12) == 0)
			play.after = strtoll(line + 12, NULL, 10);
		require(play.header(line, 1, n, play.header_user) == n);
	}
}

static CURLcode body_play(const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		char bytes[INPUT_MAX];
		size_t n = (size_t)(end - at);

		if (play.step > 0 && n > play.step)
			n = play.step;
		memcpy(bytes, at, n);
		if (play.body(bytes, 1, n, play.body_user) != n)
			return CURLE_WRITE_ERROR;
		at += n;
	}
	return CURLE_OK;
}

static CURLcode answer_play(void)
{
	const uint8_t *at = play.at, *end;

	require(play.https && ++play.asked < ASKED_MAX);
	play.status = 0;
	play.after = 0;
	if (at >= play.end)
		return CURLE_COULDNT_CONNECT;
	end = memchr(at, 0x1e, (size_t)(play.end - at));
	if (end == NULL)
		end = play.end;
	play.at = end < play.end ? end + 1 : end;
	for (; at < end && *at >= '0' && *at <= '9' && play.status < 1000; at++)
		play.status = play.status * 10 + (*at - '0');
	at += line_len(at, end);
	headers_play(&at, end);
	return play.status == 0 ? CURLE_COULDNT_CONNECT : body_play(at, end);
}

CURLMcode curl_multi_perform(CURLM *multi, int *running)
{
	(void)multi;
	play.msg.msg = CURLMSG_DONE;
	play.msg.data.result = answer_play();
	play.done = true;
	*running = 0;
	return CURLM_OK;
}

CURLMsg *curl_multi_info_read(CURLM *multi, int *left)
{
	bool done = play.done;

	(void)multi;
	*left = 0;
	play.done = false;
	return done ? &play.msg : NULL;
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	(void)multi, (void)easy;
	return CURLM_OK;
}

CURLMcode curl_multi_remove_handle(CURLM *multi, CURL *easy)
{
	(void)multi, (void)easy;
	return CURLM_OK;
}

void curl_easy_reset(CURL *easy)
{
	(void)easy;
	play.https = false;
}

const char *curl_easy_strerror(CURLcode code)
{
	(void)code;
	return "failed";
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	(void)text;
	return list;
}

void curl_slist_free_all(struct curl_slist *list)
{
	(void)list;
}

CURLcode curl_global_init(long flags)
{
	(void)flags;
	return CURLE_OK;
}

CURLM *curl_multi_init(void)
{
	return NULL;
}

CURL *curl_easy_init(void)
{
	return NULL;
}

/* ---- one input ---- */

#define GIVES_UP "the CA does not come to an end with "

static void attempt(struct acme_client *c, bool new_key)
{
	struct alk_err err = {""};
	time_t again = 1, now = acme_client_clock(), due;
	int rc = acme_account_open(c, &err);

	if (rc == 0 && new_key)
		rc = acme_account_rekey(c, &err);
	if (rc == 0)
		rc = acme_order_run(c, &err);
	require(rc == 0 || err.text[0] != '\0');
	/* Our own sentence: the CA may say the same in a name or a URL, but not with that code. */
	require(rc != -EBUSY || strncmp(err.text, GIVES_UP, sizeof(GIVES_UP) - 1) != 0 ||
		play.clock_ms >= 299000);
	require((rc == 0) == (play.certificates == 1));
	require(play.proofs == 0);
	require(c->retry_after == 0 || c->retry_after <= acme_client_clock() + 7 * 24 * 3600);
	due = acme_renewal_ask(c, &again);
	require(due >= 0 &&
		due <= c->pair.not_after - (c->pair.not_after - c->pair.not_before) / 6);
	require(again == 0 || again > now);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct acme_client c = {.directory_url = "https://ca.example/dir",
				.email = "me@tunnel.example",
				.state_dir = "",
				.challenge = "tls-alpn-01",
				.pair = {.not_before = START - 86400,
					 .not_after = START + 8640000,
					 .ari_id = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"}};
	struct alk_err err;
	json_t *names;

	if (n == 0 || n > INPUT_MAX)
		return 0;
	if (account == NULL)
		account = acme_key_new(&err);
	names = json_pack("[s, s]", "tunnel.example", "192.0.2.1");
	require(account != NULL && names != NULL);
	memset(&play, 0, sizeof(play));
	play.at = bytes + 1;
	play.end = bytes + n;
	play.step = bytes[0] & 15;
	play.next_key = (bytes[0] & 32) != 0;
	c.names = names;
	attempt(&c, (bytes[0] & 16) != 0);
	EVP_PKEY_free(c.key);
	free(c.account);
	json_decref(c.directory);
	json_decref(names);
	return 0;
}
