/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alknet/dial.h>

#include "addr.h"
#include "admin.h"
#include "cidr.h"
#include "misdeed.h"
#include "proxy_url.h"
#include "ssh_library.h"
#include "text.h"

int alk_max_startups_parse(const char *text, struct alk_max_startups *out, struct alk_err *err)
{
	int64_t part[3] = {0};
	char copy[64], shown[64], *rest = copy;
	bool good = strlen(text) < sizeof(copy);
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word; good && (word = strsep(&rest, ":")) != NULL; n++)
		good = n < 3 && alk_text_int(word, &part[n]) == 0 && part[n] >= 0 &&
		       part[n] <= 1000000;
	if (good && n == 3 && part[1] <= 100 && part[2] >= part[0]) {
		*out = (struct alk_max_startups){(unsigned)part[0], (unsigned)part[1],
						 (unsigned)part[2]};
		return 0;
	}
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return alk_err_set(
		err, -EINVAL,
		"must be START:RATE:FULL like 10:30:100, a percentage in the middle and FULL not below START, not \"%s\"",
		shown);
}

/* Put the option as it was given before the sentence. */
static int blame(const struct alk_conf *conf, const char *name, int rc, struct alk_err *err)
{
	char given[512];

	alk_conf_given_as(conf, name, given, sizeof(given));
	return alk_err_prefix(err, rc, "%s", given);
}

static int address_check(const char *text, bool zero_ok, struct alk_err *err)
{
	char host[256];
	uint16_t port;

	return alk_addr_split(text, host, sizeof(host), &port, zero_ok, err);
}

static int metrics_check(const struct alk_conf *conf, struct alk_err *err)
{
	const char *text = alk_options_str(conf->values, "metrics_listen");
	int rc;

	if (text == NULL || strcmp(text, "none") == 0)
		return 0;
	rc = address_check(text, true, err);
	return rc < 0 ? blame(conf, "metrics_listen", rc, err) : 0;
}

static int admin_users_check(const struct alk_conf *conf, struct alk_err *err)
{
	const char *text;
	uid_t uid;
	size_t i = 0;

	for (; (text = alk_options_nth(conf->values, "admin_users", i)) != NULL; i++)
		if (alk_admin_user_parse(text, &uid, err) < 0)
			return blame(conf, "admin_users", -ENOENT, err);
	if (i > ALK_ADMIN_USERS_MAX)
		return blame(conf, "admin_users",
			     alk_err_set(err, -E2BIG, "has more than %d users",
					 ALK_ADMIN_USERS_MAX),
			     err);
	return 0;
}

static int penalties_check(const struct alk_conf *conf, struct alk_err *err)
{
	struct alk_misdeed_conf penalties;
	const char *text, *why;
	struct alk_cidr net;
	size_t i = 0;
	int rc = alk_misdeed_parse(alk_options_str(conf->values, "source_penalties"), &penalties,
				   err);

	if (rc < 0)
		return blame(conf, "source_penalties", rc, err);
	for (; (text = alk_options_nth(conf->values, "penalty_exempt", i)) != NULL; i++) {
		why = strcmp(text, "none") == 0 ? NULL : alk_cidr_parse(&net, text);
		if (why != NULL)
			return blame(conf, "penalty_exempt", alk_err_set(err, -EINVAL, "%s", why),
				     err);
	}
	if (i > ALK_PENALTY_EXEMPT_MAX)
		return blame(conf, "penalty_exempt",
			     alk_err_set(err, -E2BIG, "has more than %d networks",
					 ALK_PENALTY_EXEMPT_MAX),
			     err);
	return 0;
}

static int serve_check(const struct alk_conf *conf, struct alk_err *err)
{
	const struct alk_options *values = conf->values;
	const char *user = alk_options_str(values, "user");
	struct alk_max_startups startups;
	int rc;

	/* A plugin may have one to give (alk_half_host_key). */
	if (!alk_options_has(values, "key") && !alk_conf_section_says(conf, "host_key"))
		return alk_err_set(
			err, -EINVAL,
			"serve needs a host key: give --key FILE (ssh-keygen -t ed25519 -N '' -f FILE makes one)");
	if (!alk_options_has(values, "authorized_keys") && !alk_options_has(values, "policy") &&
	    !alk_options_has(values, "cert_authority"))
		return alk_err_set(
			err, -EINVAL,
			"nobody could log in: give --authorized-keys FILE or --cert-authority FILE, or --policy FILE with an on_auth function");
	rc = alk_max_startups_parse(alk_options_str(values, "max_startups"), &startups, err);
	if (rc < 0)
		return blame(conf, "max_startups", rc, err);
	rc = penalties_check(conf, err);
	if (rc < 0)
		return rc;
	if (user != NULL && getpwnam(user) == NULL)
		return blame(conf, "user",
			     alk_err_set(err, -ENOENT, "there is no account %s", user), err);
	return admin_users_check(conf, err);
}

static int server_check(const char *text, struct alk_err *err)
{
	size_t len = strlen(text);
	bool brackets = text[0] == '[' && text[len - 1] == ']';
	struct alk_sockaddr addr;
	char host[256];
	uint16_t port;

	/* Of a transport that knows servers by paths. */
	if (text[0] == '/')
		return len < sizeof(host) ? 0
					  : alk_err_set(err, -ENAMETOOLONG,
							"the path is longer than %zu characters",
							sizeof(host) - 1);
	if (strchr(text, '@') != NULL)
		return alk_err_set(
			err, -EINVAL,
			"must be HOST or HOST:PORT; who logs in is given by --user NAME (user = \"NAME\")");
	if (alk_addr_split(text, host, sizeof(host), &port, false, err) == 0 && host[0] != '\0')
		return 0;
	snprintf(host, sizeof(host), "%.*s", (int)(len - (brackets ? 2 : 0)), text + brackets);
	if (alk_addr_parse(&addr, host, 1) == 0)
		return 0;
	if (!brackets && strchr(text, ':') == NULL)
		return alk_addr_check_name(text, err);
	return alk_err_set(err, -EINVAL,
			   "must be HOST or HOST:PORT, the port from 1 to 65535, not \"%s\"", host);
}

/* The server takes the same, and some that libssh does not let a client say. */
static int user_check(const char *text, struct alk_err *err)
{
	if (strlen(text) > 64)
		return alk_err_set(err, -EINVAL, "must not be longer than 64 bytes");
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
		if (*c < 0x20 || *c == 0x7f)
			return alk_err_set(err, -EINVAL, "must not hold control characters");
	if (!alk_ssh_takes_user(text))
		return alk_err_set(
			err, -EINVAL,
			"libssh logs nobody in under such a name: it must not be empty, begin with -, nor hold any of $ \\ ; & | < > ( ) { } , ' \" `");
	return 0;
}

static int fingerprint_check(const char *text, struct alk_err *err)
{
	static const char base64[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	if (strncmp(text, "SHA256:", 7) == 0 && strspn(text + 7, base64) == 43 &&
	    strlen(text) == 50)
		return 0;
	return alk_err_set(err, -EINVAL,
			   "must be SHA256: and 43 characters, as ssh-keygen -l -f FILE prints it");
}

static int forwards_check(const struct alk_conf *conf, struct alk_err *err)
{
	struct alk_forward forward;
	const char *text;
	int rc;

	for (size_t i = 0; (text = alk_options_nth(conf->values, "forward", i)) != NULL; i++) {
		rc = alk_forward_parse(text, &forward, err);
		if (rc < 0)
			return blame(conf, "forward", rc, err);
	}
	for (size_t i = 0; (text = alk_options_nth(conf->values, "remote_forward", i)) != NULL;
	     i++) {
		rc = alk_forward_parse_remote(text, &forward, err);
		if (rc < 0)
			return blame(conf, "remote_forward", rc, err);
	}
	return 0;
}

static int connect_check(const struct alk_conf *conf, struct alk_err *err)
{
	const struct alk_options *values = conf->values;
	const char *text, *name;
	int rc;

	if (!alk_options_has(values, "server") && !alk_options_has(values, "peer"))
		return alk_err_set(
			err, -EINVAL,
			"connect needs a server: give --server HOST[:PORT] or set ALKNET_SERVER");
	/* What the environment fills in counts less. */
	if (alk_options_has(values, "server") && alk_options_has(values, "peer") &&
	    strcmp(alk_conf_source(conf, "server"), "environment") != 0)
		return blame(conf, "peer",
			     alk_err_set(err, -EINVAL, "stands beside server; give one of the two"),
			     err);
	if (!alk_options_has(values, "identity") && getenv("SSH_AUTH_SOCK") == NULL)
		return alk_err_set(
			err, -EINVAL,
			"connect needs a private key: give --identity FILE, set ALKNET_IDENTITY, or start ssh-agent (SSH_AUTH_SOCK)");
	if (alk_options_has(values, "socks5_auth") && alk_options_has(values, "socks5_auth_file"))
		return blame(conf, "socks5_auth_file",
			     alk_err_set(err, -EINVAL,
					 "stands beside socks5_auth; give one of the two"),
			     err);
	rc = 0;
	if ((text = alk_options_str(values, name = "server")) != NULL)
		rc = server_check(text, err);
	if (rc == 0)
		rc = user_check(alk_options_str(values, name = "user"), err);
	if (rc == 0 && strcmp(text = alk_options_str(values, name = "socks5"), "none") != 0)
		rc = address_check(text, true, err);
	/* Port 0 means something at a reserved destination alone. */
	if (rc == 0 && (text = alk_options_str(values, name = "stdio")) != NULL)
		rc = address_check(text, strncmp(text, "alknet-", 7) == 0, err);
	if (rc == 0 && (text = alk_options_str(values, name = "host_key_fingerprint")) != NULL)
		rc = fingerprint_check(text, err);
	return rc < 0 ? blame(conf, name, rc, err) : forwards_check(conf, err);
}

/* What stands in a flag is seen by everybody who lists processes. */
int alk_conf_proxy_check(const struct alk_conf *conf, struct alk_err *err)
{
	const char *url = alk_options_str(conf->values, "proxy");
	const char *source = alk_conf_source(conf, "proxy");
	struct alk_proxy_url parsed = {.kind = ALK_PROXY_NONE};
	int rc = 0;

	if (url == NULL) /* or it is in a file that is still to be read */
		return 0;
	if (strcmp(source, "flag") == 0 && alk_proxy_url_has_password(url))
		rc = alk_err_set(
			err, -EINVAL,
			"a password must not be on the command line, where every user of this machine sees it; write proxy or proxy_file in the configuration file");
	if (rc == 0)
		rc = alk_proxy_url_parse(url, &parsed, err);
	explicit_bzero(&parsed, sizeof(parsed));
	return rc < 0 ? blame(conf, "proxy", rc, err) : 0;
}

int alk_conf_cross_check(struct alk_conf *conf, struct alk_err *err)
{
	int rc = alk_conf_proxy_check(conf, err);

	if (rc == 0)
		rc = metrics_check(conf, err);
	if (rc < 0)
		return rc;
	return conf->role == ALK_ROLE_CLIENT ? connect_check(conf, err) : serve_check(conf, err);
}
