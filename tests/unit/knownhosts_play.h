/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef KNOWNHOSTS_PLAY_H
#define KNOWNHOSTS_PLAY_H

/* Keys, lines and judgements of known_hosts. */

#include "knownhosts.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "keygen.h"

enum {
	A,
	B,
	RSA,
	EC,
	KEYS
};

static const char *const key_files[KEYS] = {"a", "b", "rsa", "ec"};
static ssh_key keys[KEYS];
static char *base64[KEYS];
static char print[KEYS][64];
static const char *const key_types[KEYS] = {"ssh-ed25519", "ssh-ed25519", "ssh-rsa",
					    "ecdsa-sha2-nistp256"};

static inline int setup(void **state)
{
	if (keygen_setup(state) < 0)
		return -1;
	keygen_run("for k in a b; do ssh-keygen -q -t ed25519 -N '' -f $k; done");
	keygen_run("ssh-keygen -q -t rsa -b 2048 -N '' -f rsa; ssh-keygen -q -t ecdsa -N '' -f ec");
	for (int i = 0; i < KEYS; i++) {
		char file[16];

		snprintf(file, sizeof(file), "%s.pub", key_files[i]);
		if (ssh_pki_import_pubkey_file(keygen_path(file), &keys[i]) != SSH_OK ||
		    ssh_pki_export_pubkey_base64(keys[i], &base64[i]) != SSH_OK ||
		    alk_key_fingerprint(keys[i], print[i], sizeof(print[i])) < 0)
			return -1;
	}
	return 0;
}

static inline int teardown(void **state)
{
	for (int i = 0; i < KEYS; i++) {
		ssh_key_free(keys[i]);
		ssh_string_free_char(base64[i]);
	}
	return keygen_teardown(state);
}

/* Lines of known_hosts in short: "%A" stands for "ssh-ed25519 AAAA...", so for B, R and E. */
static char *expand(const char *text)
{
	char *out = calloc(1, 65536);
	size_t n = 0;

	assert_non_null(out);
	for (; *text; text++) {
		const char *letter = *text == '%' && text[1] ? strchr("ABRE", text[1]) : NULL;

		if (letter) {
			int i = (int)(letter - (const char *)"ABRE");

			i = text[1] == 'A' ? A : text[1] == 'B' ? B : text[1] == 'R' ? RSA : EC;
			n += (size_t)snprintf(out + n, 65536 - n, "%s %s", key_types[i], base64[i]);
			text++;
		} else {
			out[n++] = *text;
		}
	}
	return out;
}

static inline int judge(const char *text, size_t len, const char *host, uint16_t port, int key,
			struct alk_host_answer *answer)
{
	/* from a copy of the exact size, so that reading past it is caught */
	char *copy = malloc(len ? len : 1);
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, len);
	rc = alk_knownhosts_judge("FILE", copy, len, host, port, keys[key], answer, NULL);
	free(copy);
	if (rc == 0) {
		assert_string_equal(answer->seen, print[key]);
		assert_string_equal(answer->key_type, key_types[key]);
	}
	return rc;
}

#endif
