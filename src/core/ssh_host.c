/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What all sessions of a worker share, and what is asked about them from outside. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <alknet/log.h>
#include "identity.h"
#include "pkey_keep.h"
#include "ssh_server.h"
#include "json_text.h"

static int host_set(ssh_bind bind, enum ssh_bind_options_e option, const char *value,
		    struct alk_err *err)
{
	if (ssh_bind_options_set(bind, option, value) < 0)
		return alk_err_set(err, -EINVAL, "libssh refuses %s: %s", value,
				   ssh_get_error(bind));
	return 0;
}

/* THREATS 5: only key exchanges that take a millisecond; AEAD ciphers first; nothing with SHA-1. */
static int host_algorithms(struct alk_server_host *host, struct alk_err *err)
{
	static const char kex[] =
		"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256";
	static const char ciphers[] = "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,"
				      "aes128-gcm@openssh.com";
	static const char macs[] = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com";
	/* Of these libssh offers those that it has a key for. */
	static const char host_keys[] =
		"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
		"rsa-sha2-512,rsa-sha2-256";
	const struct {
		enum ssh_bind_options_e option;
		const char *value;
	} settings[] = {
		{SSH_BIND_OPTIONS_KEY_EXCHANGE, kex},
		{SSH_BIND_OPTIONS_CIPHERS_C_S, ciphers},
		{SSH_BIND_OPTIONS_CIPHERS_S_C, ciphers},
		{SSH_BIND_OPTIONS_HMAC_C_S, macs},
		{SSH_BIND_OPTIONS_HMAC_S_C, macs},
		{SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS, host_keys},
		/* Also what server-sig-algs says, so that clients offer nothing else. A
		 * certificate's signature is one of its key. */
		{SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, alk_auth_signature_types(host->auth)},
		{SSH_BIND_OPTIONS_BANNER, "alknet"},
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(settings) / sizeof(*settings); i++)
		rc = host_set(host->bind, settings[i].option, settings[i].value, err);
	return rc;
}

/* The library keeps one key of each kind. */
static int kind_of(ssh_key key)
{
	switch (ssh_key_type(key)) {
	case SSH_KEYTYPE_ECDSA_P256:
	case SSH_KEYTYPE_ECDSA_P384:
	case SSH_KEYTYPE_ECDSA_P521:
		return 1;
	case SSH_KEYTYPE_RSA:
		return 2;
	default:
		return 0;
	}
}

/* The host key of a plugin stands for a file's of its kind. */
static bool is_replaced(const struct alk_conf *conf, const char *const *taken, ssh_key key)
{
	return alk_conf_lent(conf, "key", 0) &&
	       taken[kind_of(key)] == alk_options_nth(alk_conf_values(conf), "key", 0);
}

static int host_key_add(struct alk_server_host *host, const char *path, ssh_key key,
			const char **taken, struct alk_err *err)
{
	int kind = kind_of(key);

	if (taken[kind])
		return alk_err_set(err, -EINVAL,
				   "key: %s and %s are of one kind: give one host key each of "
				   "Ed25519, ECDSA and RSA at most",
				   taken[kind], path);
	taken[kind] = path;
	if (ssh_bind_options_set(host->bind, SSH_BIND_OPTIONS_IMPORT_KEY, key) < 0)
		return alk_err_set(err, -EINVAL, "libssh refuses the host key %s", path);
	return 0;
}

static int host_keys(struct alk_server_host *host, const struct alk_conf *conf, struct alk_err *err)
{
	const char *taken[3] = {NULL}, *path, *text;
	size_t n, len = 0;
	int rc = 0;

	for (n = 0; rc == 0 && (path = alk_options_nth(host->values, "key", n)); n++) {
		ssh_key key;

		text = alk_conf_file(conf, "key", n, &len);
		key = alk_identity_parse(path, text, len, NULL, NULL, err);
		if (!key)
			return -EINVAL;
		if (is_replaced(conf, taken, key)) {
			ssh_key_free(key);
			continue;
		}
		rc = host_key_add(host, path, key, taken, err);
		if (rc < 0) /* the library took it else */
			ssh_key_free(key);
	}
	/* Without one the supervisor sends no links until a plugin gives one. */
	return rc;
}

int alk_server_check_keys(const struct alk_conf *conf, size_t *count, struct alk_err *err)
{
	struct alk_server_host host = {.values = alk_conf_values(conf), .bind = ssh_bind_new()};
	int rc = host.bind ? alk_ssh_check_library(err)
			   : alk_err_set(err, -ENOMEM, "out of memory");

	if (rc == 0)
		rc = host_keys(&host, conf, err);
	if (host.bind)
		ssh_bind_free(host.bind);
	for (*count = 0; alk_options_nth(host.values, "key", *count);)
		++*count;
	return rc;
}

/* End the sessions whose key or certificate is no longer good. The peer is not told why. */
static void on_recheck(void *user)
{
	struct alk_server_host *host = user;
	int64_t now = time(NULL);
	struct alk_server *v;

	for (v = host->first; v; v = v->next) {
		const char *why = v->state == SERVER_OPEN && !v->ssh.dying && !v->ssh.finishing
					  ? server_key_over(v, now)
					  : NULL;

		if (!why)
			continue;
		alk_log(ALK_LOG_INFO, "certificate no longer good",
			ALK_STR("remote_addr", v->link.remote_addr), ALK_STR("user", v->user),
			ALK_STR("key_fingerprint", v->fingerprint), ALK_STR("reason", why));
		alk_ssh_finish(&v->ssh, "the login is no longer good");
	}
	alk_timer_start(host->recheck,
			(uint64_t)alk_options_int(host->values, "recheck_certificates"));
}

static int host_recheck(struct alk_server_host *host, struct alk_err *err)
{
	uint64_t every = (uint64_t)alk_options_int(host->values, "recheck_certificates");

	if (every == 0)
		return 0;
	host->recheck = alk_timer_new(host->loop, "recheck certificates", on_recheck, host);
	if (!host->recheck)
		return alk_err_set(err, -ENOMEM, "out of memory");
	alk_timer_start(host->recheck, every);
	return 0;
}

struct alk_server_host *alk_server_host_new(struct alk_loop *loop, const struct alk_conf *conf,
					    struct alk_auth *auth, struct alk_policy *policy,
					    struct alk_route *route, struct alk_loader *loader,
					    const struct alk_server_ops *ops, void *user,
					    struct alk_err *err)
{
	struct alk_server_host *host = calloc(1, sizeof(*host));
	bool no = false;

	if (!host) {
		alk_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	if (alk_ssh_check_library(err) < 0)
		goto fail;
	host->loop = loop;
	host->values = alk_conf_values(conf);
	host->handshake_timeout = (uint64_t)alk_options_int(host->values, "handshake_timeout");
	host->auth = auth;
	host->policy = policy;
	host->route = route;
	host->loader = loader;
	host->ops = ops;
	host->user = user;
	host->bind = ssh_bind_new();
	host->remotes = alk_remote_table_new(loop, ops->remote, user);
	if (!host->bind || !host->remotes) {
		alk_err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	ssh_bind_options_set(host->bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no);
	if (host_keys(host, conf, err) < 0 || host_algorithms(host, err) < 0 ||
	    host_recheck(host, err) < 0)
		goto fail;
	return host;
fail:
	alk_server_host_free(&host);
	return NULL;
}

void alk_server_host_free(struct alk_server_host **host)
{
	if (!*host)
		return;
	while ((*host)->first)
		server_free((*host)->first, "the server stops");
	alk_timer_free(&(*host)->recheck);
	if ((*host)->bind)
		ssh_bind_free((*host)->bind);
	alk_pkey_keep_forget();
	alk_remote_table_free(&(*host)->remotes);
	free(*host);
	*host = NULL;
}

void alk_server_host_remote(struct alk_server_host *host, const json_t *message)
{
	alk_remote_table_hear(host->remotes, message);
}

void alk_server_host_watch(struct alk_server_host *host, bool on)
{
	host->watched = on;
}

struct alk_server *alk_server_find(struct alk_server_host *host, uint64_t number)
{
	struct alk_server *v;

	for (v = host->first; v && v->number != number; v = v->next)
		;
	return v;
}

uint64_t alk_server_number(const struct alk_server *v)
{
	return v->number;
}

struct alk_server *alk_server_next(struct alk_server_host *host, struct alk_server *after)
{
	return after ? after->next : host->first;
}

void alk_server_host_tick(struct alk_server_host *host)
{
	uint64_t every = (uint64_t)alk_options_int(host->values, "keepalive");
	struct alk_server *v;

	/* A tick is up to a third of it away, so that a peer is gone after three times the time at
	 * most. */
	for (v = host->first; v && every > 0; v = v->next)
		if (v->state == SERVER_OPEN)
			(void)alk_ssh_keepalive(&v->ssh, every, 3 * every - every / 3);
}

void alk_server_set_path(struct alk_server *v, const char *kind, const char *via, double rtt)
{
	if (v == NULL)
		return;
	snprintf(v->path, sizeof(v->path), "%s", kind);
	snprintf(v->path_via, sizeof(v->path_via), "%s", via);
	v->rtt = rtt;
}

/* Where the transport knows of several. */
static void describe_path(json_t *one, const struct alk_server *v)
{
	if (one == NULL || v->path[0] == '\0')
		return;
	json_object_update_new(one, json_pack("{s:s, s:s, s:f}", "path", v->path, "path_via",
					      v->path_via, "rtt", v->rtt));
}

json_t *alk_server_describe(const struct alk_server *v)
{
	static const char *const states[] = {"admit", "key exchange", "authentication", "open"};
	double age = (double)(alk_loop_now(v->host->loop) - v->since) / 1000;
	json_t *one;

	one = json_pack("{s:I, s:s, s:s, s:s, s:i, s:o*, s:o*, s:s, s:o*, s:s*, s:i, s:f}", "id",
			(json_int_t)v->number, "state", states[v->state], "transport",
			v->link.transport, "remote_addr", v->link.remote_addr, "remote_port",
			(int)v->link.remote_port, "sni",
			alk_json_text(v->link.sni[0] ? v->link.sni : NULL), "alpn",
			alk_json_text(v->link.alpn[0] ? v->link.alpn : NULL), "user",
			alk_auth_user_valid(v->user) ? v->user : "", "identity",
			alk_json_text(v->ssh.grant ? v->ssh.grant->identity.id : NULL),
			"key_fingerprint", v->fingerprint[0] ? v->fingerprint : NULL, "channels",
			(int)v->ssh.n_channels, "age", age);
	describe_path(one, v);
	return one;
}

json_t *alk_server_channels(const struct alk_server *v)
{
	json_t *list = json_array();
	struct alk_channel *c = NULL;
	struct alk_channel_info info;

	while (v->ssh_made && (c = alk_ssh_channel_next(&v->ssh, c))) {
		alk_channel_get_info(c, &info);
		json_array_append_new(list,
				      json_pack("{s:I, s:I, s:s, s:b, s:b, s:f}", "session",
						(json_int_t)v->number, "id", (json_int_t)info.id,
						"state", info.open ? "open" : "opening", "eof_in",
						info.eof_in, "eof_out", info.eof_out, "age",
						info.age));
	}
	return list;
}

unsigned alk_server_uses(const struct alk_server *v, const struct alk_channel_ops *ops,
			 const char *transport, bool *link)
{
	struct alk_channel *c = NULL;
	unsigned n = 0;

	while (v->ssh_made && (c = alk_ssh_channel_next(&v->ssh, c)))
		n += ops && alk_channel_get_ops(c) == ops;
	*link = strcmp(v->link.transport, transport) == 0;
	return n;
}

bool alk_server_close_channel(struct alk_server *v, uint64_t id)
{
	struct alk_channel *c = NULL;

	while (v->ssh_made && (c = alk_ssh_channel_next(&v->ssh, c))) {
		if (alk_channel_id(c) == id) {
			alk_channel_close(c);
			return true;
		}
	}
	return false;
}
