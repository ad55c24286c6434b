/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "ssh_login_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client.h"
#include "content.h"
#include "identity.h"
#include "base64.h"
#include "keys.h"
#include "loop_private.h"
#include "pubkey.h"

static bool is_public_file(const char *path)
{
	size_t len = strlen(path);

	return len > 4 && strcmp(path + len - 4, ".pub") == 0;
}

/* ---- certificates ---- */

static int cert_parse(struct alk_login *l, const char *path, const char *text, size_t len,
		      struct alk_err *err)
{
	int rc = alk_pubkey_parse(path, text, len, &l->cert, &l->cert_len, err);

	if (rc < 0)
		return rc;
	snprintf(l->cert_path, sizeof(l->cert_path), "%s", path);
	if (!alk_pubkey_is_cert(l->cert, l->cert_len))
		return alk_err_set(err, -EINVAL, "%s is a public key, not a certificate", path);
	return 0;
}

/* KEY-cert.pub beside KEY, if it is there. */
static int cert_beside(struct alk_login *l, struct alk_err *err)
{
	size_t len = strlen(l->identity) - (is_public_file(l->identity) ? 4 : 0);
	struct alk_content content;
	char path[512];
	int rc;

	if ((size_t)snprintf(path, sizeof(path), "%.*s-cert.pub", (int)len, l->identity) >=
	    sizeof(path))
		return 0;
	rc = alk_content_read(path, false, &content, err);
	if (rc == -ENOENT || rc == -ENOTDIR)
		return 0;
	if (rc == 0)
		rc = cert_parse(l, path, content.bytes, content.len, err);
	alk_content_deinit(&content);
	return rc;
}

/* `key` is the identity's blob, NULL when any key of the agent will do. */
static int cert_read(struct alk_login *l, const struct alk_conf *conf, const uint8_t *key,
		     size_t key_len, struct alk_err *err)
{
	const char *path = alk_options_str(alk_conf_values(conf), "certificate");
	size_t len = 0;
	const char *text = alk_conf_file(conf, "certificate", 0, &len);
	int rc = 0;

	if (l->cert)
		return 0; /* the identity is one */
	if (text)
		rc = cert_parse(l, path, text, len, err);
	else if (key && !alk_conf_given(conf, "identity", 0))
		rc = cert_beside(l, err);
	if (rc < 0 || !l->cert || !key || alk_pubkey_certifies(l->cert, l->cert_len, key, key_len))
		return rc;
	return alk_err_set(err, -EINVAL, "%s is the certificate of another key than %s",
			   l->cert_path, l->identity);
}

static int cert_attach(struct alk_login *l, struct alk_err *err)
{
	char base64[ALK_KEY_BLOB_MAX * 4 / 3 + 8];
	ssh_key cert = NULL;
	const char *type = alk_pubkey_type(l->cert, l->cert_len);
	int rc = SSH_ERROR;

	l->file_key[0] = ssh_key_dup(l->file_key[1]);
	if (l->file_key[0] && alk_base64_encode(l->cert, l->cert_len, base64, sizeof(base64)) > 0 &&
	    ssh_pki_import_cert_base64(base64, ssh_key_type_from_name(type), &cert) == SSH_OK)
		rc = ssh_pki_copy_cert_to_privkey(cert, l->file_key[0]);
	ssh_key_free(cert);
	return rc == SSH_OK ? 0 : alk_err_set(err, -EINVAL, "%s is damaged", l->cert_path);
}

/* ---- is the key in the agent? At the start only: it waits, on a loop of its own. ---- */

struct look {
	struct alk_loop *loop;
	const uint8_t *blob;
	size_t len;
	bool found;
};

static void on_look(void *user, int rc, const uint8_t *answer, size_t len,
		    const struct alk_err *err)
{
	struct look *look = user;
	struct alk_agent_key *keys = calloc(ALK_AGENT_KEYS_MAX, sizeof(*keys));
	int n = rc == 0 && keys ? alk_agent_keys(answer, len, keys, ALK_AGENT_KEYS_MAX) : 0;

	(void)err;
	for (int i = 0; i < n; i++)
		if (keys[i].len == look->len && memcmp(keys[i].blob, look->blob, look->len) == 0)
			look->found = true;
	free(keys);
	alk_loop_stop(look->loop);
}

static bool agent_holds(const struct alk_login *l, const uint8_t *blob, size_t len)
{
	static const uint8_t question[] = {ALK_AGENT_REQUEST_IDENTITIES};
	struct look look = {.loop = alk_loop_new(NULL), .blob = blob, .len = len};

	if (!look.loop)
		return false;
	if (alk_agent_ask(look.loop, l->agent, question, sizeof(question), LOGIN_LIST_MS, on_look,
			  &look, NULL))
		alk_loop_run(look.loop);
	alk_loop_free(&look.loop);
	return look.found;
}

/* ---- the identity ---- */

/* The option's; asked for once, then there is no other. */
static int passphrase_given(void *user, const char *prompt, char *buf, size_t size)
{
	const char **passphrase = user;

	(void)prompt;
	if (!*passphrase)
		return -EKEYREJECTED;
	if (strlen(*passphrase) >= size)
		return -E2BIG;
	memcpy(buf, *passphrase, strlen(*passphrase) + 1);
	*passphrase = NULL;
	return 0;
}

static int private_read(struct alk_login *l, const struct alk_conf *conf, const char *text,
			size_t len, struct alk_err *err)
{
	const char *passphrase;
	bool encrypted = false;
	uint8_t *blob = NULL;
	size_t blob_len = 0;
	int rc = alk_identity_public(l->identity, text, len, &blob, &blob_len, &encrypted, err);

	if (rc == 0)
		rc = cert_read(l, conf, blob, blob_len, err);
	if (rc == 0 && encrypted && l->agent[0] && !l->guest && agent_holds(l, blob, blob_len)) {
		l->by_agent = true;
		l->wanted = blob;
		l->wanted_len = blob_len;
		return 0;
	}
	free(blob);
	if (rc < 0)
		return rc;
	passphrase = alk_options_str(alk_conf_values(conf), "identity_passphrase");
	if (passphrase)
		l->file_key[1] = alk_identity_parse(l->identity, text, len, passphrase_given,
						    &passphrase, err);
	else
		l->file_key[1] = alk_identity_parse(l->identity, text, len,
						    l->guest ? NULL : alk_passphrase_tty, NULL,
						    err);
	if (!l->file_key[1])
		return -EINVAL;
	return l->cert ? cert_attach(l, err) : 0;
}

static int public_read(struct alk_login *l, const struct alk_conf *conf, const char *text,
		       size_t len, struct alk_err *err)
{
	int rc;

	if (!l->agent[0])
		return alk_err_set(
			err, -EINVAL,
			"%s is a public key, so an agent must have the private one, but SSH_AUTH_SOCK "
			"is not set: name the private key, or start ssh-agent",
			l->identity);
	rc = alk_pubkey_parse(l->identity, text, len, &l->wanted, &l->wanted_len, err);
	if (rc < 0)
		return rc;
	l->by_agent = true;
	if (!alk_pubkey_is_cert(l->wanted, l->wanted_len))
		return cert_read(l, conf, l->wanted, l->wanted_len, err);
	/* A certificate names the key that it is of. */
	l->cert = l->wanted;
	l->cert_len = l->wanted_len;
	l->wanted = NULL;
	snprintf(l->cert_path, sizeof(l->cert_path), "%s", l->identity);
	return 0;
}

int alk_client_check_identity(const struct alk_conf *conf, struct alk_err *err)
{
	const char *path = alk_options_str(alk_conf_values(conf), "identity"), *text;
	size_t len = 0, blob_len;
	uint8_t *blob = NULL;
	bool encrypted;
	int rc = 0;

	text = path ? alk_conf_file(conf, "identity", 0, &len) : NULL;
	if (text && is_public_file(path))
		rc = alk_pubkey_parse(path, text, len, &blob, &blob_len, err);
	else if (text)
		rc = alk_identity_public(path, text, len, &blob, &blob_len, &encrypted, err);
	free(blob);
	return rc < 0 ? alk_err_prefix(err, rc, "identity") : 0;
}

static int login_read(struct alk_login *l, const struct alk_conf *conf, struct alk_err *err)
{
	const char *sock = getenv("SSH_AUTH_SOCK");
	size_t len = 0;
	const char *text = alk_conf_file(conf, "identity", 0, &len);

	if (sock && strlen(sock) < sizeof(l->agent))
		snprintf(l->agent, sizeof(l->agent), "%s", sock);
	l->identity = text ? alk_options_str(alk_conf_values(conf), "identity") : NULL;
	if (text && is_public_file(l->identity))
		return public_read(l, conf, text, len, err);
	if (text)
		return private_read(l, conf, text, len, err);
	if (!l->agent[0])
		return alk_err_set(err, -EINVAL,
				   "there is no key to log in with: give --identity FILE, or start "
				   "ssh-agent (SSH_AUTH_SOCK)");
	l->by_agent = true;
	return cert_read(l, conf, NULL, 0, err);
}

struct alk_login *alk_login_new(struct alk_loop *loop, const struct alk_conf *conf,
				const char *server, const char *user, struct alk_err *err)
{
	struct alk_login *l = calloc(1, sizeof(*l));

	if (!l) {
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	l->loop = loop;
	l->server = server;
	l->user = user;
	l->guest = alk_loop_is_guest(loop);
	l->ours = l->theirs = -1;
	if (login_read(l, conf, err) < 0)
		alk_login_free(&l);
	return l;
}

void alk_login_free(struct alk_login **login)
{
	struct alk_login *l = *login;

	if (!l)
		return;
	alk_login_end(l);
	for (size_t i = 0; i < LOGIN_FILE_KEYS; i++)
		ssh_key_free(l->file_key[i]);
	free(l->wanted);
	free(l->cert);
	free(l->last);
	free(l);
	*login = NULL;
}

/* ---- the turn ---- */

int alk_login_begin(struct alk_login *l, struct alk_ssh *s, struct alk_err *err)
{
	alk_login_end(l);
	l->ssh = s;
	l->file_next = l->file_key[0] ? 0 : 1;
	l->not_signed = 0;
	l->rc = 0;
	l->err.text[0] = '\0';
	if (l->by_agent)
		return login_agent_list(l, err);
	l->state = LOGIN_FILES;
	return 0;
}

static int files_refused(const struct alk_login *l, struct alk_err *err)
{
	return alk_err_set(err, -EACCES, "%s: the server refused the key %s%s%s for user %s",
			   l->server, l->identity, l->cert ? " and its certificate " : "",
			   l->cert ? l->cert_path : "", l->user);
}

static int files_step(struct alk_login *l, struct alk_err *err)
{
	while (l->file_next < LOGIN_FILE_KEYS) {
		int rc;

		alk_ssh_enter(l->ssh);
		rc = ssh_userauth_publickey(l->ssh->ssh, NULL, l->file_key[l->file_next]);
		alk_ssh_leave(l->ssh);
		switch (rc) {
		case SSH_AUTH_AGAIN:
			return 0;
		case SSH_AUTH_SUCCESS:
			return 1;
		case SSH_AUTH_DENIED:
		case SSH_AUTH_PARTIAL:
			l->file_next++;
			break;
		default:
			return -EPROTO;
		}
	}
	return files_refused(l, err);
}

int alk_login_step(struct alk_login *l, struct alk_err *err)
{
	return l->state == LOGIN_FILES ? files_step(l, err) : login_agent_step(l, err);
}

void alk_login_end(struct alk_login *l)
{
	login_agent_end(l);
	l->state = LOGIN_IDLE;
	l->ssh = NULL;
}

const char *alk_login_hint(const struct alk_login *l)
{
	return l->state == LOGIN_OFFERING && l->n_offers > 1
		       ? ": perhaps the agent has more keys than it lets one try; choose one with "
			 "--identity KEY.pub"
		       : "";
}
