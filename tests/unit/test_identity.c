/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Private keys of the real ssh-keygen, and the passphrase asked on a terminal of the test's own. */
#include "identity.h"
#include "base64.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <cmocka.h>

#include "keygen.h"

#define ED25519 "ssh-keygen -q -t ed25519 -a 1 -C 'a comment'"

struct answers {
	const char *const *text; /* one a try, NULL: -ECANCELED */
	int asked;
	char prompt[512];
};

static int on_ask(void *user, const char *prompt, char *buf, size_t size)
{
	struct answers *answers = user;
	const char *text = answers->text[answers->asked++];

	snprintf(answers->prompt, sizeof(answers->prompt), "%s", prompt);
	if (!text)
		return -ECANCELED;
	assert_true(strlen(text) < size);
	strcpy(buf, text);
	return 0;
}

/* From a copy of the exact size, so that reading past it is caught. */
static ssh_key parse(const char *text, size_t len, struct answers *answers, struct alk_err *err)
{
	char *copy = malloc(len ? len : 1);
	ssh_key key;

	assert_non_null(copy);
	memcpy(copy, text, len);
	err->text[0] = '\0';
	key = alk_identity_parse("FILE", copy, len, answers ? on_ask : NULL, answers, err);
	free(copy);
	assert_true((key == NULL) == (err->text[0] != '\0'));
	return key;
}

static ssh_key parse_file(const char *file, struct answers *answers, struct alk_err *err)
{
	size_t len;
	char *text = keygen_read(file, &len);
	ssh_key key = parse(text, len, answers, err);

	free(text);
	return key;
}

/* The key is the one whose .pub file this is. */
static void expect_key(ssh_key key, const char *pub, const struct alk_err *err)
{
	size_t len;
	char *text = keygen_read(pub, &len), *base64 = NULL;

	if (!key)
		fail_msg("%s", err->text);
	assert_true(ssh_key_is_private(key));
	assert_int_equal(ssh_pki_export_pubkey_base64(key, &base64), SSH_OK);
	assert_non_null(strstr(text, base64));
	ssh_string_free_char(base64);
	ssh_key_free(key);
	free(text);
}

static void expect_refused(const char *file, struct answers *answers, const char *what,
			   const char *fix)
{
	struct alk_err err;

	assert_null(parse_file(file, answers, &err));
	if (!strstr(err.text, "FILE") || !strstr(err.text, what) || !strstr(err.text, fix))
		fail_msg("%s: %s", what, err.text);
}

static void test_plain(void **state)
{
	static const char *const none[] = {NULL};
	struct answers answers = {none, 0, ""};
	struct alk_err err;
	size_t len;
	char *text, *crlf;

	(void)state;
	keygen_run("rm -f k k.pub; " ED25519 " -N '' -f k");
	expect_key(parse_file("k", NULL, &err), "k.pub", &err);
	expect_key(parse_file("k", &answers, &err), "k.pub", &err);
	assert_int_equal(answers.asked, 0);
	/* the same with CRLF, and without the last line's end */
	text = keygen_read("k", &len);
	expect_key(parse(text, len - 1, NULL, &err), "k.pub", &err);
	crlf = malloc(2 * len);
	assert_non_null(crlf);
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n')
			crlf[n++] = '\r';
		crlf[n++] = text[i];
	}
	expect_key(parse(crlf, n, NULL, &err), "k.pub", &err);
	free(crlf);
	free(text);
}

static void test_encrypted(void **state)
{
	static const char *const ciphers[] = {"aes256-ctr", "aes192-ctr", "aes128-ctr",
					      "aes256-cbc", "aes192-cbc", "aes128-cbc",
					      "3des-cbc"};
	static const char *const aead[] = {"aes256-gcm@openssh.com", "aes128-gcm@openssh.com",
					   "chacha20-poly1305@openssh.com"};
	static const char *const right[] = {"s3cret", NULL};
	struct answers answers;
	struct alk_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(ciphers) / sizeof(*ciphers); i++) {
		keygen_run("rm -f k k.pub; " ED25519 " -N s3cret -Z %s -f k", ciphers[i]);
		answers = (struct answers){right, 0, ""};
		expect_key(parse_file("k", &answers, &err), "k.pub", &err);
		assert_int_equal(answers.asked, 1);
		assert_string_equal(answers.prompt, "Passphrase for FILE: ");
	}
	for (size_t i = 0; i < sizeof(aead) / sizeof(*aead); i++) {
		keygen_run("rm -f k k.pub; " ED25519 " -N s3cret -Z %s -f k", aead[i]);
		answers = (struct answers){right, 0, ""};
		expect_refused("k", &answers, "cipher", "`ssh-keygen -p -Z aes256-ctr -f FILE`");
		assert_int_equal(answers.asked, 0);
	}
	/* the fix that the sentence names works */
	keygen_run("ssh-keygen -q -p -P s3cret -N s3cret -a 1 -Z aes256-ctr -f k");
	answers = (struct answers){right, 0, ""};
	expect_key(parse_file("k", &answers, &err), "k.pub", &err);
	keygen_run("ssh-keygen -q -p -P s3cret -N s3cret -a 1 -f k");
	expect_refused("k", NULL, "encrypted", "`ssh-keygen -p -f FILE`");
}

static void test_tries(void **state)
{
	static const char *const third[] = {"wrong", "", "s3cret", NULL};
	static const char *const never[] = {"a", "b", "c", "s3cret"};
	static const char *const gives_up[] = {"a", NULL, "s3cret"};
	struct answers answers = {third, 0, ""};
	struct alk_err err;
	char passphrase[1024];
	const char *const lasting[] = {passphrase, NULL};

	(void)state;
	keygen_run("rm -f k k.pub; " ED25519 " -N s3cret -f k");
	expect_key(parse_file("k", &answers, &err), "k.pub", &err);
	assert_int_equal(answers.asked, 3);
	assert_string_equal(answers.prompt, "Wrong passphrase. Passphrase for FILE: ");
	answers = (struct answers){never, 0, ""};
	expect_refused("k", &answers, "passphrase", "wrong");
	assert_int_equal(answers.asked, 3);
	answers = (struct answers){gives_up, 0, ""};
	expect_refused("k", &answers, "no passphrase", strerror(ECANCELED));
	assert_int_equal(answers.asked, 2);
	/* as long as can be asked for */
	memset(passphrase, 'p', sizeof(passphrase) - 1);
	passphrase[sizeof(passphrase) - 1] = '\0';
	keygen_run("ssh-keygen -q -p -a 1 -P s3cret -N \"$(printf '%%01023d' 0 | tr 0 p)\" -f k");
	answers = (struct answers){lasting, 0, ""};
	expect_key(parse_file("k", &answers, &err), "k.pub", &err);
}

static void test_other_types(void **state)
{
	static const struct {
		const char *make;
		const char *type;
	} kinds[] = {
		{"-t rsa -b 2048", "RSA"},
		{"-t rsa -b 3071", "RSA"},
	};
	static const char *const none[] = {NULL};
	struct answers answers = {none, 0, ""};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		/* no passphrase is asked for a key that is refused anyway */
		keygen_run("rm -f k k.pub; ssh-keygen -q %s -a 1 -N s3cret -f k", kinds[i].make);
		expect_refused("k", &answers, kinds[i].type, "`ssh-keygen -t ed25519`");
		assert_int_equal(answers.asked, 0);
		expect_refused("k.pub", &answers, "public key", "private key");
	}
}

static void test_pem(void **state)
{
	static const struct {
		const char *make;
		const char *what;
		const char *fix;
	} kinds[] = {
		{"ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -f k", "RSA",
		 "`ssh-keygen -p -f FILE`"},
		{"ssh-keygen -q -t rsa -b 2048 -m PEM -N s3cret -f k", "PKCS#1",
		 "`ssh-keygen -t ed25519`"},
		{"ssh-keygen -q -t ecdsa -m PEM -N '' -f k", "ECDSA", "`ssh-keygen -p -f FILE`"},
		{"ssh-keygen -q -t rsa -b 2048 -m PKCS8 -N '' -f k", "PKCS#8",
		 "`ssh-keygen -p -f FILE`"},
		{"ssh-keygen -q -t rsa -b 2048 -m PKCS8 -N s3cret -f k", "PKCS#8",
		 "`ssh-keygen -p -f FILE`"},
		{"ssh-keygen -q -t rsa -b 2048 -N '' -f r && ssh-keygen -e -m PEM -f r.pub >k && rm r",
		 "public", "private"},
		{"ssh-keygen -q -t rsa -b 2048 -N '' -f r && ssh-keygen -e -m PKCS8 -f r.pub >k && rm r",
		 "public", "private"},
		{"ssh-keygen -q -t rsa -b 2048 -N '' -f r && ssh-keygen -e -f r.pub >k && rm r",
		 "public", "private"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		keygen_run("rm -f k k.pub; %s", kinds[i].make);
		expect_refused("k", NULL, kinds[i].what, kinds[i].fix);
	}
}

static void test_wrong_files(void **state)
{
	static const char *const rows[][3] = {
		{"", "empty", "`ssh-keygen -t ed25519`"},
		{"hello\n", "not a private key", "`ssh-keygen -t ed25519`"},
		{"-----BEGIN EC PARAMETERS-----\n", "ECDSA", "`ssh-keygen -p -f FILE`"},
		{"-----BEGIN DSA PRIVATE KEY-----\n", "DSA", "`ssh-keygen -t ed25519`"},
		{"-----BEGIN CERTIFICATE-----\n", "certificate", "private key"},
		{"ssh-ed25519-cert-v01@openssh.com AAAA", "public key", "private key"},
		{"sk-ssh-ed25519@openssh.com AAAA", "public key", "private key"},
		{"PuTTY-User-Key-File-3: ssh-ed25519\r\n", "PuTTY",
		 "`puttygen FILE -O private-openssh-new -o"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----", "damaged", "copy"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----\n", "damaged", "copy"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n",
		 "damaged", "copy"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
		 "damaged", "copy"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----\n????\n-----END OPENSSH PRIVATE KEY-----\n",
		 "damaged", "copy"},
		{" -----BEGIN OPENSSH PRIVATE KEY-----\n", "not a private key",
		 "`ssh-keygen -t ed25519`"},
	};
	struct alk_err err;
	char *big;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		keygen_write("w", rows[i][0]);
		expect_refused("w", NULL, rows[i][1], rows[i][2]);
	}
	assert_null(parse("-----BEGIN OPENSSH\0 PRIVATE KEY-----\n", 38, NULL, &err));
	assert_non_null(strstr(err.text, "FILE"));
	big = calloc(1, 65537);
	assert_non_null(big);
	memset(big, 'x', 65537);
	assert_null(parse(big, 65536, NULL, &err));
	assert_non_null(strstr(err.text, "not a private key"));
	assert_null(parse(big, 65537, NULL, &err));
	assert_non_null(strstr(err.text, "64 KiB"));
	free(big);
}

#define BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----\n"
#define END "\n-----END OPENSSH PRIVATE KEY-----\n"

struct blob {
	uint8_t bytes[4096];
	size_t len;
};

static void blob_read(const char *file, struct blob *blob)
{
	char *text = keygen_read(file, NULL), base64[8192];
	char *end = strstr(text, END);
	size_t n = 0;

	for (char *p = text + strlen(BEGIN); p < end; p++)
		if (*p != '\n')
			base64[n++] = *p;
	free(text);
	ssize_t len = alk_base64_decode(base64, n, blob->bytes, sizeof(blob->bytes));
	assert_true(len > 0);
	blob->len = (size_t)len;
}

static ssh_key blob_parse(const uint8_t *bytes, size_t len, struct answers *answers,
			  struct alk_err *err)
{
	char text[8192];
	ssize_t n;

	strcpy(text, BEGIN);
	n = alk_base64_encode(bytes, len, text + strlen(BEGIN), sizeof(text) - 256);
	assert_true(n >= 0);
	strcat(text, END);
	return parse(text, strlen(text), answers, err);
}

/* Cut anywhere, and with any byte changed: refused, or (the check bytes and the comment are not
 * covered by anything) the same key. */
static void test_damage(void **state)
{
	struct alk_err err;
	struct blob blob;
	size_t same = 0;

	(void)state;
	keygen_run("rm -f k k.pub; " ED25519 " -N '' -f k");
	blob_read("k", &blob);
	expect_key(blob_parse(blob.bytes, blob.len, NULL, &err), "k.pub", &err);
	for (size_t n = 0; n < blob.len; n++)
		assert_null(blob_parse(blob.bytes, n, NULL, &err));
	blob.bytes[blob.len] = 0;
	assert_null(blob_parse(blob.bytes, blob.len + 1, NULL, &err));
	for (size_t i = 0; i < blob.len; i++) {
		ssh_key key;

		blob.bytes[i] ^= 0x21;
		key = blob_parse(blob.bytes, blob.len, NULL, &err);
		blob.bytes[i] ^= 0x21;
		if (!key)
			continue;
		same++;
		expect_key(key, "k.pub", &err);
	}
	/* the 32 secret bytes, the public key behind them, and the comment */
	assert_true(same <= 64 + strlen("a comment"));
}

/* What could make the import run for minutes, or look into another file than was checked. */
static void test_hostile(void **state)
{
	static const char *const right[] = {"s3cret", NULL};
	struct answers answers = {right, 0, ""};
	struct alk_err err;
	struct blob blob;
	char *text, *twice;
	size_t len;
	uint8_t *kdf;

	(void)state;
	keygen_run("rm -f k k.pub; " ED25519 " -N s3cret -f k");
	blob_read("k", &blob);
	/* "bcrypt", then 24 bytes of options: a salt of 16 and the rounds */
	kdf = memmem(blob.bytes, blob.len, "bcrypt", 6);
	assert_non_null(kdf);
	assert_int_equal(kdf[9], 24);
	memset(kdf + 30, 0xff, 4);
	assert_null(blob_parse(blob.bytes, blob.len, &answers, &err));
	assert_non_null(strstr(err.text, "4294967295 rounds"));
	assert_non_null(strstr(err.text, "`ssh-keygen -p -a 100 -f FILE`"));
	memset(kdf + 30, 0, 4);
	assert_null(blob_parse(blob.bytes, blob.len, &answers, &err));
	kdf[33] = 1;
	kdf[0] = 'B';
	assert_null(blob_parse(blob.bytes, blob.len, &answers, &err));
	assert_int_equal(answers.asked, 0);
	/* libssh passes over what stands behind BEGIN on the same line */
	text = keygen_read("k", &len);
	twice = calloc(2, len + 64);
	assert_non_null(twice);
	sprintf(twice, "-----BEGIN OPENSSH PRIVATE KEY-----AAAA%s", text + strlen(BEGIN) - 1);
	assert_null(parse(twice, strlen(twice), &answers, &err));
	/* two keys in one file: the first counts */
	sprintf(twice, "%s%s", text, text);
	expect_key(parse(twice, strlen(twice), &answers, &err), "k.pub", &err);
	free(twice);
	free(text);
}

/* A terminal of our own. The session's leader runs `alk_passphrase_tty` in a child of its own, so
 * that the terminal outlives it, and says how that ended. */
struct terminal {
	pid_t pid;
	int fd;
	int report;
};

struct outcome {
	int rc;
	int signal;
	bool handled;
	bool echo;
	bool suspends;
	bool handler_kept;
	char text[128];
};

static volatile sig_atomic_t handled;

static void on_signal(int number)
{
	handled = number;
}

static void asker_run(int report, bool survives, size_t size)
{
	struct outcome outcome = {0};
	struct sigaction action = {.sa_handler = survives ? on_signal : SIG_DFL}, now;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	outcome.rc = alk_passphrase_tty(NULL, "Passphrase for X: ", outcome.text, size);
	sigaction(SIGINT, NULL, &now);
	outcome.handled = handled;
	outcome.handler_kept = now.sa_handler == action.sa_handler;
	_exit(write(report, &outcome, sizeof(outcome)) == sizeof(outcome) ? 0 : 1);
}

static void leader_run(int slave, int report, bool survives, size_t size)
{
	struct outcome outcome = {0};
	int pair[2], status;
	struct termios mode;
	pid_t pid;

	signal(SIGINT, SIG_IGN);
	setsid();
	if (ioctl(slave, TIOCSCTTY, 0) < 0 || pipe(pair) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0)
		asker_run(pair[1], survives, size);
	close(pair[1]);
	if (read(pair[0], &outcome, sizeof(outcome)) < 0 || waitpid(pid, &status, 0) != pid)
		_exit(1);
	outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if (tcgetattr(slave, &mode) < 0)
		_exit(1);
	outcome.echo = mode.c_lflag & ECHO;
	outcome.suspends = mode.c_cc[VSUSP] != _POSIX_VDISABLE;
	_exit(write(report, &outcome, sizeof(outcome)) == sizeof(outcome) ? 0 : 1);
}

/* Returns when the prompt is there and nothing is echoed. */
static void terminal_open(struct terminal *t, bool survives, size_t size)
{
	int slave, report[2];
	char seen[128] = "";
	size_t n = 0;
	struct termios mode;

	t->fd = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(t->fd >= 0);
	assert_int_equal(grantpt(t->fd), 0);
	assert_int_equal(unlockpt(t->fd), 0);
	slave = open(ptsname(t->fd), O_RDWR | O_NOCTTY);
	assert_true(slave >= 0);
	assert_int_equal(pipe(report), 0);
	t->pid = fork();
	assert_true(t->pid >= 0);
	if (t->pid == 0) {
		close(t->fd);
		leader_run(slave, report[1], survives, size);
	}
	close(slave);
	close(report[1]);
	t->report = report[0];
	while (!strstr(seen, "Passphrase for X: ")) {
		ssize_t got = read(t->fd, seen + n, sizeof(seen) - 1 - n);

		assert_true(got > 0);
		n += (size_t)got;
		seen[n] = '\0';
	}
	assert_int_equal(tcgetattr(t->fd, &mode), 0);
	assert_false(mode.c_lflag & ECHO);
}

static void terminal_close(struct terminal *t, struct outcome *outcome)
{
	char out[256];
	ssize_t n;
	int status;

	assert_int_equal(read(t->report, outcome, sizeof(*outcome)), sizeof(*outcome));
	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	assert_int_equal(status, 0);
	/* all that came out is the end of the line */
	n = read(t->fd, out, sizeof(out));
	assert_int_equal(n, 2);
	assert_memory_equal(out, "\r\n", 2);
	close(t->report);
	close(t->fd);
	assert_true(outcome->echo);
	assert_true(outcome->suspends);
}

static void terminal_type(struct terminal *t, const char *text)
{
	assert_int_equal(write(t->fd, text, strlen(text)), strlen(text));
}

static void test_terminal(void **state)
{
	static const struct {
		const char *typed;
		int rc;
		const char *text;
	} rows[] = {
		{"open sesame\n", 0, "open sesame"},
		{"\n", 0, ""},
		{"wrong\x15right\r", 0, "right"},
		{"0123456789abcde\n", 0, "0123456789abcde"},
		{"0123456789abcdef\n", -E2BIG, ""},
		{"\x04", -ECANCELED, ""},
		{"ab\x04\x04", 0, "ab"},
		{"a\x1a\n", 0, "a\x1a"},
	};
	struct terminal t;
	struct outcome outcome;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		terminal_open(&t, false, 16);
		terminal_type(&t, rows[i].typed);
		terminal_close(&t, &outcome);
		assert_int_equal(outcome.signal, 0);
		assert_int_equal(outcome.rc, rows[i].rc);
		assert_string_equal(outcome.text, rows[i].text);
		assert_true(outcome.handler_kept);
	}
}

static void test_terminal_signal(void **state)
{
	struct terminal t;
	struct outcome outcome;

	(void)state;
	/* ^C ends the program as it would have without us, but with the echo back */
	terminal_open(&t, false, 16);
	terminal_type(&t, "abc\x03");
	terminal_close(&t, &outcome);
	assert_int_equal(outcome.signal, SIGINT);
	/* a program with a handler of its own gets -EINTR after the handler ran */
	terminal_open(&t, true, 16);
	terminal_type(&t, "abc\x03");
	terminal_close(&t, &outcome);
	assert_int_equal(outcome.signal, 0);
	assert_int_equal(outcome.rc, -EINTR);
	assert_true(outcome.handled);
	assert_true(outcome.handler_kept);
	assert_string_equal(outcome.text, "");
}

static void test_no_terminal(void **state)
{
	char buf[16] = "";
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		setsid();
		_exit(alk_passphrase_tty(NULL, "?", buf, sizeof(buf)) == -ENOTTY ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),	    cmocka_unit_test(test_encrypted),
		cmocka_unit_test(test_tries),	    cmocka_unit_test(test_other_types),
		cmocka_unit_test(test_pem),	    cmocka_unit_test(test_wrong_files),
		cmocka_unit_test(test_damage),	    cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_terminal),    cmocka_unit_test(test_terminal_signal),
		cmocka_unit_test(test_no_terminal),
	};

	return cmocka_run_group_tests(tests, keygen_setup, keygen_teardown);
}
