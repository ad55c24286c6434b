/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "identity.h"
#include "base64.h"
#include "keys.h"
#include "wire.h"
#include "pubkey.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define END "-----END OPENSSH PRIVATE KEY-----"
#define MAGIC "openssh-key-v1"
#define FILE_LIMIT 65536
#define ROUNDS_LIMIT 10000 /* half a minute or more; ssh-keygen takes 16 */
#define PASSPHRASE_SIZE 1024
#define TRIES 3

#define NEW_KEY "make a key with `ssh-keygen -t ed25519`"

enum fix {
	FIX_FILE,
	FIX_FORM,
	FIX_TYPE,
	FIX_PUTTY,
};

/* What a file is that is no OpenSSH private key, by its first bytes. */
static const struct wrong_file {
	const char *begin;
	const char *what;
	enum fix fix;
} wrong_files[] = {
	{"-----BEGIN RSA PRIVATE KEY", "an RSA key in PEM form (PKCS#1)", FIX_FORM},
	{"-----BEGIN EC P", "an ECDSA key in PEM form", FIX_FORM},
	{"-----BEGIN DSA PRIVATE KEY", "a DSA key in PEM form", FIX_TYPE},
	{"-----BEGIN PRIVATE KEY", "a key in PEM form (PKCS#8)", FIX_FORM},
	{"-----BEGIN ENCRYPTED PRIVATE KEY", "a key in PEM form (PKCS#8)", FIX_FORM},
	{"-----BEGIN PUBLIC KEY", "a public key", FIX_FILE},
	{"-----BEGIN RSA PUBLIC KEY", "a public key", FIX_FILE},
	{"---- BEGIN SSH2 PUBLIC KEY", "a public key", FIX_FILE},
	{"ssh-", "a public key", FIX_FILE},
	{"ecdsa-", "a public key", FIX_FILE},
	{"sk-", "a public key", FIX_FILE},
	{"-----BEGIN CERTIFICATE", "an X.509 certificate", FIX_FILE},
	{"PuTTY-User-Key-File-", "a PuTTY key", FIX_PUTTY},
};

/* What libssh can decrypt; anything else it would crash on or refuse without a reason. */
static const char *const ciphers[] = {"none",	    "aes256-ctr", "aes192-ctr", "aes128-ctr",
				      "aes256-cbc", "aes192-cbc", "aes128-cbc", "3des-cbc"};

struct envelope {
	uint8_t *data;
	size_t len;
	const uint8_t *pub;
	size_t pub_len;
	bool encrypted;
};

static int wrong_file_say(const char *name, const char *text, struct alk_err *err)
{
	const struct wrong_file *w = wrong_files, *end = w + sizeof(wrong_files) / sizeof(*w);

	if (!*text)
		return alk_err_set(err, -EINVAL, "%s is empty: " NEW_KEY, name);
	while (w < end && strncmp(text, w->begin, strlen(w->begin)) != 0)
		w++;
	if (w == end)
		return alk_err_set(err, -EINVAL,
				   "%s is not a private key in OpenSSH's form: " NEW_KEY, name);
	switch (w->fix) {
	case FIX_FORM:
		return alk_err_set(
			err, -EINVAL,
			"%s is %s, not in OpenSSH's own form: change it with `ssh-keygen -p -f %s`, "
			"or " NEW_KEY,
			name, w->what, name);
	case FIX_TYPE:
		return alk_err_set(
			err, -EINVAL,
			"%s is %s: only Ed25519, ECDSA and RSA keys in OpenSSH's own form are read, so " NEW_KEY,
			name, w->what);
	case FIX_PUTTY:
		return alk_err_set(err, -EINVAL,
				   "%s is %s: turn it into an OpenSSH key with "
				   "`puttygen %s -O private-openssh-new -o FILE`",
				   name, w->what, name);
	case FIX_FILE:
		break;
	}
	return alk_err_set(err, -EINVAL, "%s is %s: name the file that has the private key", name,
			   w->what);
}

static int damaged_say(const char *name, struct alk_err *err)
{
	return alk_err_set(err, -EINVAL, "%s is damaged: take a whole copy of the key, or " NEW_KEY,
			   name);
}

static bool text_is(const uint8_t *text, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(text, word, len) == 0;
}

/* The bytes between BEGIN and END. */
static int envelope_decode(const char *text, struct envelope *e)
{
	const char *p = text + strlen(BEGIN), *end = strstr(p, END);
	size_t len = 0;
	ssize_t n = -EINVAL;
	char *base64;

	/* libssh passes over what follows BEGIN on its line: it must not read another key than we
	 * do. */
	if (!end || !strchr("\r\n", *p))
		return -EINVAL;
	base64 = malloc((size_t)(end - p) + 1);
	e->data = malloc((size_t)(end - p) + 1);
	if (base64 && e->data) {
		for (; p < end; p++)
			if (!strchr(" \t\r\n", *p))
				base64[len++] = *p;
		n = alk_base64_decode(base64, len, e->data, len);
		explicit_bzero(base64, len);
	}
	free(base64);
	if (n > 0)
		e->len = (size_t)n;
	return n > 0 ? 0 : -EINVAL;
}

static int cipher_check(const char *name, const uint8_t *cipher, size_t len, struct alk_err *err)
{
	for (size_t i = 0; i < sizeof(ciphers) / sizeof(*ciphers); i++)
		if (text_is(cipher, len, ciphers[i]))
			return 0;
	return alk_err_set(err, -EINVAL,
			   "%s is encrypted with a cipher that cannot be read: change it with "
			   "`ssh-keygen -p -Z aes256-ctr -f %s`",
			   name, name);
}

static int kdf_check(const char *name, bool encrypted, const uint8_t *kdf, size_t kdf_len,
		     struct alk_wire options, struct alk_err *err)
{
	const uint8_t *salt;
	size_t salt_len;
	uint32_t rounds;

	if (!encrypted)
		return text_is(kdf, kdf_len, "none") ? 0 : damaged_say(name, err);
	if (!text_is(kdf, kdf_len, "bcrypt") || !alk_wire_string(&options, &salt, &salt_len) ||
	    !alk_wire_u32(&options, &rounds) || options.left != 0 || salt_len == 0 || rounds == 0)
		return damaged_say(name, err);
	if (rounds > ROUNDS_LIMIT)
		return alk_err_set(
			err, -EINVAL,
			"%s asks for %u rounds of key derivation, more than %d: change it with "
			"`ssh-keygen -p -a 100 -f %s`",
			name, rounds, ROUNDS_LIMIT, name);
	return 0;
}

static int type_check(const char *name, const struct envelope *e, struct alk_err *err)
{
	int rc = alk_pubkey_check(name, e->pub, e->pub_len, err);

	if (rc == 0 && alk_pubkey_is_cert(e->pub, e->pub_len))
		rc = damaged_say(name, err);
	return rc;
}

/* The secret part of a key without a passphrase; libssh leaks when it is of another type. */
static int secret_check(const char *name, struct alk_wire secret, const char *public_type,
			struct alk_err *err)
{
	const uint8_t *type;
	size_t type_len;
	uint32_t check1, check2;

	if (!alk_wire_u32(&secret, &check1) || !alk_wire_u32(&secret, &check2) ||
	    check1 != check2 || !alk_wire_string(&secret, &type, &type_len) ||
	    !text_is(type, type_len, public_type))
		return damaged_say(name, err);
	return 0;
}

/* Check everything that can be read without a passphrase. */
static int envelope_open(const char *name, const char *text, struct envelope *e,
			 struct alk_err *err)
{
	struct alk_wire wire, options, secret;
	const uint8_t *cipher, *kdf;
	size_t cipher_len, kdf_len;
	uint32_t count;
	int rc;

	if (envelope_decode(text, e) < 0 || e->len < sizeof(MAGIC) ||
	    memcmp(e->data, MAGIC, sizeof(MAGIC)) != 0)
		return damaged_say(name, err);
	wire = (struct alk_wire){e->data + sizeof(MAGIC), e->len - sizeof(MAGIC)};
	if (!alk_wire_string(&wire, &cipher, &cipher_len) ||
	    !alk_wire_string(&wire, &kdf, &kdf_len) ||
	    !alk_wire_string(&wire, &options.p, &options.left) || !alk_wire_u32(&wire, &count) ||
	    count != 1 || !alk_wire_string(&wire, &e->pub, &e->pub_len))
		return damaged_say(name, err);
	rc = type_check(name, e, err);
	if (rc == 0)
		rc = cipher_check(name, cipher, cipher_len, err);
	if (rc < 0)
		return rc;
	e->encrypted = !text_is(cipher, cipher_len, "none");
	if (!alk_wire_string(&wire, &secret.p, &secret.left) || wire.left != 0 ||
	    secret.left == 0 || secret.left % 8 != 0)
		return damaged_say(name, err);
	rc = kdf_check(name, e->encrypted, kdf, kdf_len, options, err);
	if (rc < 0 || e->encrypted)
		return rc;
	return secret_check(name, secret, alk_pubkey_type(e->pub, e->pub_len), err);
}

/* The key, or NULL: wrong passphrase or damaged. libssh never asks by itself: a passphrase that is
 * not NULL is all it tries, and without one an encrypted key does not come here. */
static ssh_key key_import(const char *text, const char *passphrase, const struct envelope *e)
{
	ssh_key key = NULL;
	char *base64 = NULL;
	uint8_t pub[ALK_KEY_BLOB_MAX];
	ssize_t n;
	bool same;

	if (ssh_pki_import_privkey_base64(text, passphrase, NULL, NULL, &key) != SSH_OK)
		return NULL;
	if (ssh_pki_export_pubkey_base64(key, &base64) != SSH_OK) {
		ssh_key_free(key);
		return NULL;
	}
	n = alk_base64_decode(base64, strlen(base64), pub, sizeof(pub));
	same = n >= 0 && (size_t)n == e->pub_len && memcmp(pub, e->pub, e->pub_len) == 0;
	ssh_string_free_char(base64);
	if (!same) {
		ssh_key_free(key);
		return NULL;
	}
	return key;
}

static ssh_key key_decrypt(const char *name, const char *text, const struct envelope *e,
			   alk_passphrase_fn *ask, void *user, struct alk_err *err)
{
	char prompt[512], passphrase[PASSPHRASE_SIZE];
	ssh_key key = NULL;
	int rc = ask ? 0 : -ENOTTY;

	for (int i = 0; rc == 0 && !key && i < TRIES; i++) {
		snprintf(prompt, sizeof(prompt),
			 "%sPassphrase for %.400s: ", i ? "Wrong passphrase. " : "", name);
		rc = ask(user, prompt, passphrase, sizeof(passphrase));
		if (rc == 0)
			key = key_import(text, passphrase, e);
		explicit_bzero(passphrase, sizeof(passphrase));
	}
	if (rc == -ENOTTY)
		alk_err_set(
			err, rc,
			"%s is encrypted and nobody can be asked for its passphrase here: run this on a "
			"terminal, or take the passphrase off with `ssh-keygen -p -f %s`",
			name, name);
	else if (rc == -EKEYREJECTED)
		alk_err_set(err, rc, "the passphrase for %s is wrong", name);
	else if (rc < 0)
		alk_err_set(err, rc, "no passphrase for %s: %s", name, strerror(-rc));
	else if (!key)
		alk_err_set(err, -EACCES, "the passphrase for %s is wrong, %d tries", name, TRIES);
	return key;
}

/* A copy of the text that ends with a NUL, its envelope opened. Gives both, on failure too. */
static int file_open(const char *name, const char *text, size_t len, char **copy,
		     struct envelope *e, struct alk_err *err)
{
	if (len > FILE_LIMIT)
		return alk_err_set(err, -EFBIG,
				   "%s is larger than 64 KiB, so it is not a private key: " NEW_KEY,
				   name);
	*copy = strndup(text, len);
	if (!*copy)
		return alk_err_set(err, -ENOMEM, "%s: %s", name, strerror(ENOMEM));
	if (strlen(*copy) == len && strncmp(*copy, BEGIN, strlen(BEGIN)) != 0)
		return wrong_file_say(name, *copy, err);
	if (strlen(*copy) != len)
		return damaged_say(name, err);
	return envelope_open(name, *copy, e, err);
}

static void file_close(char *copy, struct envelope *e)
{
	if (e->data)
		explicit_bzero(e->data, e->len);
	free(e->data);
	if (copy)
		explicit_bzero(copy, strlen(copy));
	free(copy);
}

ssh_key alk_identity_parse(const char *name, const char *text, size_t len, alk_passphrase_fn *ask,
			   void *user, struct alk_err *err)
{
	struct envelope e = {0};
	ssh_key key = NULL;
	char *copy = NULL;

	if (file_open(name, text, len, &copy, &e, err) == 0) {
		if (e.encrypted)
			key = key_decrypt(name, copy, &e, ask, user, err);
		else if (!(key = key_import(copy, NULL, &e)))
			damaged_say(name, err);
	}
	file_close(copy, &e);
	return key;
}

int alk_identity_public(const char *name, const char *text, size_t len, uint8_t **blob,
			size_t *blob_len, bool *encrypted, struct alk_err *err)
{
	struct envelope e = {0};
	char *copy = NULL;
	int rc = file_open(name, text, len, &copy, &e, err);

	if (rc == 0) {
		*blob = malloc(e.pub_len);
		if (*blob)
			memcpy(*blob, e.pub, e.pub_len);
		else
			rc = alk_err_set(err, -ENOMEM, "%s: out of memory", name);
		*blob_len = e.pub_len;
		*encrypted = e.encrypted;
	}
	file_close(copy, &e);
	return rc;
}
