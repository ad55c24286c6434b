/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "admin_secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include "../plugins/services/secret/words.h"
#include "admin_ssh_key.h"
#include "cert_digest.h"
#include "passphrase.h"

#define LINE_MAX_ 256 /* what the server takes of a text */
#define HEX 64

/* All that is secret in this process, but for what jansson sends. */
static struct {
	char line[LINE_MAX_], passphrase[LINE_MAX_];
	char hex[HEX];
	bool has_hex;
	uint8_t seed[32];
	uint8_t entropy[SECRET_ENTROPY_MAX + 1];
	char phrase[SECRET_PHRASE_SIZE];
} held;

static void held_open(void)
{
	const struct rlimit none = {0};

	/* Best effort: this process lives for a moment. */
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	mlock(&held, sizeof(held));
}

static bool is_hex(const char *text, size_t n)
{
	return strspn(text, "0123456789abcdef") >= n;
}

void admin_secret_take(char *line, size_t len)
{
	static const char member[] = "\"private_key\":\"";
	char *at = memmem(line, len, member, sizeof(member) - 1);

	if (at == NULL)
		return;
	at += sizeof(member) - 1;
	if ((size_t)(line + len - at) <= HEX || !is_hex(at, HEX) || at[HEX] != '"')
		return;
	memcpy(held.hex, at, HEX);
	held.has_hex = true;
	memset(at, '*', HEX);
}

/* Reading */

/* A line of stdin without its end, byte by byte: so nothing of it is in a buffer of stdio. */
static int stdin_line(char *line, size_t size, bool optional)
{
	size_t n = 0;
	ssize_t got;
	char c;

	for (;;) {
		got = read(STDIN_FILENO, &c, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 || c == '\n')
			break;
		if (n + 1 == size)
			return admin_fail(STATUS_USAGE, "--stdin: a line is longer than %zu bytes",
					  size - 1);
		line[n++] = c;
	}
	if (n > 0 && line[n - 1] == '\r')
		n--;
	line[n] = '\0';
	if (got < 0)
		return admin_fail(STATUS_FAILED, "--stdin: %s", strerror(errno));
	return n > 0 || optional ? 0 : admin_fail(STATUS_USAGE, "--stdin: there is no phrase");
}

static int tty_line(const char *prompt, char *line, size_t size)
{
	int rc = alk_passphrase_tty(NULL, prompt, line, size);

	if (rc == -ENOTTY)
		return admin_fail(
			STATUS_USAGE,
			"there is no terminal to ask on; --stdin reads the phrase and the "
			"passphrase, a line each");
	if (rc == -E2BIG)
		return admin_fail(STATUS_USAGE, "that is longer than %zu bytes", size - 1);
	return rc < 0 ? admin_fail(STATUS_FAILED, "nothing was read: %s", strerror(-rc)) : 0;
}

static int unlock(struct tool *tool, json_t *params)
{
	json_t *result = NULL;
	int status;

	if (json_object_size(params) > 0)
		return admin_fail(
			STATUS_USAGE,
			"secret.unlock takes no arguments: others on this machine could read them");
	if (tool->use_stdin) {
		status = stdin_line(held.line, sizeof(held.line), false);
		if (status == 0)
			status = stdin_line(held.passphrase, sizeof(held.passphrase), true);
	} else {
		status = tty_line("Words: ", held.line, sizeof(held.line));
		if (status == 0)
			status = tty_line("Passphrase of BIP-39 (empty for none): ",
					  held.passphrase, sizeof(held.passphrase));
	}
	if (status != 0)
		return status;
	if (json_object_set_new(params, "mnemonic", json_string(held.line)) < 0 ||
	    json_object_set_new(params, "passphrase", json_string(held.passphrase)) < 0)
		return admin_fail(STATUS_USAGE, "what was read is not UTF-8");
	status = admin_call(tool, "secret.unlock", params, &result);
	if (status == 0)
		puts("unlocked");
	json_decref(result);
	return status;
}

static int new_phrase(const struct tool *tool, const json_t *params)
{
	const json_t *words = json_object_get(params, "words");
	size_t n = secret_words_entropy(words != NULL ? (unsigned)json_integer_value(words) : 24);
	uint8_t digest[32];

	if (n == 0)
		return admin_fail(STATUS_USAGE, "secret.new: words must be 12, 15, 18, 21 or 24");
	if (getrandom(held.entropy, n, 0) != (ssize_t)n ||
	    alk_sha256(held.entropy, n, digest) < 0 ||
	    !secret_words_make(held.entropy, n, digest[0], held.phrase))
		return admin_fail(STATUS_FAILED, "the phrase could not be made");
	setvbuf(stdout, NULL, _IONBF, 0);
	/* By fputs alone: printf of a stream without a buffer makes a copy. */
	fputs(tool->json ? "{\n  \"mnemonic\": \"" : "", stdout);
	fputs(held.phrase, stdout);
	fputs(tool->json ? "\"\n}\n" : "\n", stdout);
	fputs("Write it down: it is not kept anywhere.\n", stderr);
	return 0;
}

/* Printing what was derived: its asterisks become the key again. */
static int print_derived(const struct tool *tool, const json_t *result)
{
	static const char stars[] =
		"****************************************************************";
	char *text = NULL, *at;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return admin_fail(STATUS_FAILED, "out of memory");
	admin_print_answer(tool, out, result);
	fclose(out);
	setvbuf(stdout, NULL, _IONBF, 0);
	at = held.has_hex ? strstr(text, stars) : NULL;
	if (at != NULL) {
		fwrite(text, 1, (size_t)(at - text), stdout);
		fwrite(held.hex, 1, HEX, stdout);
		fputs(at + HEX, stdout);
	} else {
		fputs(text, stdout);
	}
	explicit_bzero(text, len);
	free(text);
	return 0;
}

static int confirm(void)
{
	char word[8];
	FILE *tty = fopen("/dev/tty", "r+e");
	bool yes;

	if (tty == NULL)
		return admin_fail(
			STATUS_USAGE,
			"--private asks on the terminal, and there is none; secret.ssh-key "
			"writes a key to a file");
	fputs("Show the private key on this terminal? [y/N] ", tty);
	fflush(tty);
	yes = fgets(word, sizeof(word), tty) != NULL && (word[0] == 'y' || word[0] == 'Y');
	fclose(tty);
	return yes ? 0 : admin_fail(STATUS_FAILED, "not shown");
}

static int derive(struct tool *tool, json_t *params)
{
	json_t *result = NULL;
	int status = json_is_true(json_object_get(params, "private")) ? confirm() : 0;

	if (status == 0)
		status = admin_call(tool, "secret.derive", params, &result);
	if (status == 0)
		status = print_derived(tool, result);
	json_decref(result);
	return status;
}

static int unhex(const char *hex, size_t len, uint8_t out[32])
{
	if (hex == NULL || len != HEX || !is_hex(hex, HEX))
		return -EINVAL;
	for (unsigned i = 0; i < 32; i++) {
		char high = hex[2 * i], low = hex[2 * i + 1];

		out[i] = (uint8_t)((high <= '9' ? high - '0' : high - 'a' + 10) << 4 |
				   (low <= '9' ? low - '0' : low - 'a' + 10));
	}
	return 0;
}

static int ssh_key(struct tool *tool, const json_t *params)
{
	const char *path = json_string_value(json_object_get(params, "path")),
		   *out = json_string_value(json_object_get(params, "out")), *line;
	json_t *ask = json_pack("{s:s, s:b}", "path", path, "private", 1), *result = NULL, *public;
	struct alk_err err;
	uint8_t point[32];
	int status;

	if (ask == NULL)
		return admin_fail(STATUS_FAILED, "out of memory");
	/* Before a key is derived in vain. */
	if (access(out, F_OK) == 0) {
		json_decref(ask);
		return admin_fail(STATUS_FAILED, "%s: %s", out, strerror(EEXIST));
	}
	status = admin_call(tool, "secret.derive", ask, &result);
	json_decref(ask);
	if (status != 0)
		return status;
	public = json_object_get(result, "public_key");
	line = json_string_value(json_object_get(result, "ssh_public_key"));
	if (!held.has_hex || line == NULL || unhex(held.hex, HEX, held.seed) < 0 ||
	    unhex(json_string_value(public), json_string_length(public), point) < 0)
		status = admin_fail(STATUS_FAILED, "the server's answer is not a key");
	else if (admin_ssh_key_write(out, held.seed, point, path, &err) < 0)
		status = admin_fail(STATUS_FAILED, "%s", err.text);
	else
		printf("%s %s\n", line, path);
	json_decref(result);
	return status;
}

static const char *const ours[] = {"secret.unlock", "secret.new", "secret.derive", "secret.ssh-key",
				   "secret.reencrypt"};

bool admin_secret_is(const char *name)
{
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strcmp(name, ours[i]) == 0)
			return true;
	return false;
}

static int reencrypt(struct tool *tool, const json_t *params)
{
	json_t *result = NULL;
	int status = admin_call(tool, "secret.reencrypt", (json_t *)params, &result);

	/* For a program again: the same with --json and without. */
	if (status == 0) {
		json_dumpf(result, stdout, JSON_COMPACT);
		putchar('\n');
	}
	json_decref(result);
	return status;
}

int admin_secret_run(struct tool *tool, const char *name, json_t *params)
{
	int status;

	held_open();
	if (strcmp(name, "secret.unlock") == 0)
		status = unlock(tool, params);
	else if (strcmp(name, "secret.new") == 0)
		status = new_phrase(tool, params);
	else if (strcmp(name, "secret.derive") == 0)
		status = derive(tool, params);
	else if (strcmp(name, "secret.ssh-key") == 0)
		status = ssh_key(tool, params);
	else
		status = reencrypt(tool, params);
	explicit_bzero(&held, sizeof(held));
	return status;
}
