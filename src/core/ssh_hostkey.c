/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ssh_hostkey.h"
#include "knownhosts.h"
#include "passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <alknet/log.h>

/* From the person at the terminal: 1 yes, 0 no, -EINTR for neither. */
static int tofu_ask(const char *host, const struct alk_host_answer *answer)
{
	char prompt[768], line[16] = "";
	int rc;

	snprintf(prompt, sizeof(prompt),
		 "The server %s is not known yet. Its %s key has the fingerprint\n  %s\n"
		 "Trust it from now on (yes/no)? ",
		 host, answer->key_type, answer->seen);
	rc = alk_passphrase_tty_shown(prompt, line, sizeof(line));
	if (rc == -EINTR)
		return rc;
	return rc == 0 && strcmp(line, "yes") == 0;
}

static bool tty_exists(void)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (tty < 0)
		return false;
	close(tty);
	return true;
}

static int hostkey_unknown(const struct alk_hostkey *h, ssh_key key,
			   const struct alk_host_answer *answer, struct alk_err *err)
{
	bool ask = false;
	int accept = alk_options_bool(h->values, "accept_new_host_key"), rc;

	if (h->before[0] != '\0' && strcmp(h->before, answer->seen) == 0)
		return 0;
	if (h->before[0] != '\0')
		return alk_err_set(
			err, -EACCES,
			"%s: THE HOST KEY HAS CHANGED: the server shows %s %s, but in the session before it "
			"had %s, and %s does not know it: somebody may be in between",
			h->server, answer->key_type, answer->seen, h->before, h->known_hosts);
	if (!accept)
		ask = !h->no_terminal && tty_exists();
	if (ask)
		accept = tofu_ask(h->server, answer);
	else if (!accept)
		return alk_err_set(
			err, -EACCES,
			"%s: the host key is not known: %s %s%s%s%s: check it, then say "
			"--accept-new-host-key once, or --host-key-fingerprint %s",
			h->server, answer->key_type, answer->seen, answer->authority[0] ? " (" : "",
			answer->authority,
			answer->authority[0]
				? " names a certificate authority for it, but host certificates cannot "
				  "be checked)"
				: "",
			answer->seen);
	if (accept < 0)
		return alk_err_set(err, accept,
				   "%s: interrupted at the question about the host key %s",
				   h->server, answer->seen);
	if (!accept)
		return alk_err_set(err, -EACCES, "%s: the host key %s was not accepted", h->server,
				   answer->seen);
	rc = alk_knownhosts_add(h->known_hosts, h->host, h->port, key,
				alk_options_bool(h->values, "hash_known_hosts"), err);
	return rc < 0 ? rc : ask;
}

/* A server that has several keys shows one of them, its Ed25519 key above all: a pin of another one
 * is right and does not fit. */
static int hostkey_pinned(const struct alk_hostkey *h, ssh_key key, const char *seen,
			  const char *pin, struct alk_err *err)
{
	const char *type = ssh_key_type_to_char(ssh_key_type(key));

	if (strcmp(seen, pin) != 0)
		return alk_err_set(
			err, -EACCES,
			"%s: the host key is %s %s, but --host-key-fingerprint says %s: somebody may be "
			"in between, unless that is the fingerprint of another of the server's keys: "
			"then pin the one of its %s key, as its operator has it",
			h->server, type, seen, pin, type);
	return 0;
}

int alk_hostkey_check(const struct alk_hostkey *h, ssh_key key, char seen[ALK_HOSTKEY_SEEN_SIZE],
		      struct alk_err *err)
{
	const char *pin = alk_options_str(h->values, "host_key_fingerprint");
	struct alk_host_answer answer;
	int rc;

	if (alk_key_fingerprint(key, seen, ALK_HOSTKEY_SEEN_SIZE) < 0)
		return alk_err_set(err, -ENOMEM, "%s: cannot read the host key", h->server);
	if (pin)
		return hostkey_pinned(h, key, seen, pin, err);
	rc = alk_knownhosts_check(h->known_hosts, h->host, h->port, key, &answer, err);
	if (rc < 0)
		return rc;
	if (answer.bad_lines)
		alk_log(ALK_LOG_WARN, "lines of known_hosts cannot be read",
			ALK_STR("file", h->known_hosts), ALK_INT("lines", answer.bad_lines),
			ALK_INT("first", answer.bad_line));
	switch (answer.verdict) {
	case ALK_HOST_OK:
		return 0;
	case ALK_HOST_UNKNOWN:
		return hostkey_unknown(h, key, &answer, err);
	case ALK_HOST_REVOKED:
		return alk_err_set(err, -EACCES, "%s: the host key %s is revoked (%s)", h->server,
				   answer.seen, answer.where);
	case ALK_HOST_CHANGED:
	default:
		return alk_err_set(
			err, -EACCES,
			"%s: THE HOST KEY HAS CHANGED: the server shows %s %s, but %s has %s %s: somebody "
			"may be in between; if the change is right, remove that line",
			h->server, answer.key_type, answer.seen, answer.where, answer.known_type,
			answer.known);
	}
}

int alk_hostkey_algorithms(const struct alk_hostkey *h, char *out, size_t size, struct alk_err *err)
{
	static const struct {
		unsigned type;
		const char *names;
	} all[] = {
		{ALK_HOSTKEY_ED25519, "ssh-ed25519"},
		{ALK_HOSTKEY_P256, "ecdsa-sha2-nistp256"},
		{ALK_HOSTKEY_P384, "ecdsa-sha2-nistp384"},
		{ALK_HOSTKEY_P521, "ecdsa-sha2-nistp521"},
		{ALK_HOSTKEY_RSA, "rsa-sha2-512,rsa-sha2-256"},
	};
	unsigned known = 0;
	size_t len = 0;
	int rc = 0;

	if (!alk_options_str(h->values, "host_key_fingerprint"))
		rc = alk_knownhosts_types(h->known_hosts, h->host, h->port, &known, err);
	if (rc < 0)
		return rc;
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
			if (len < size && ((known & all[i].type) == 0) == (round == 1))
				len += (size_t)snprintf(out + len, size - len, "%s%s",
							len ? "," : "", all[i].names);
	return len < size ? 0 : alk_err_set(err, -ENOSPC, "too many host key algorithms");
}
