/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <alknet/dial.h>

#include "addr.h"
#include "text.h"

#define BOTH (ALK_OPT_SERVE | ALK_OPT_CONNECT)
#define SECONDS(n_) ((int64_t)(n_) * 1000)
#define DAYS(n_) SECONDS((n_) * 86400LL)

#define G_KEYS "Keys and who may log in"
#define G_LISTEN "Listening"
#define G_LIMITS "Limits"
#define G_PROCESS "Processes and policy"
#define G_SERVER "The server"
#define G_HOST_KEY "The server's host key"
#define G_LOCAL "What listens here"
#define G_TRANSPORT "Transport and plugins"
#define G_LOG "Log"

/* In the order of --help. An option that both commands have with different defaults stands here twice. */
const struct alk_option alk_conf_options[] = {
	/* serve */
	{.name = "key", .type = ALK_OPT_FILE, .flags = ALK_OPT_SERVE | ALK_OPT_PRIVATE, .arg = "FILE", .group = G_KEYS,
	 .help = "the server's private host key, an OpenSSH Ed25519 key that nobody else may read"},
	{.name = "authorized_keys", .type = ALK_OPT_FILE, .flags = ALK_OPT_SERVE, .arg = "FILE", .group = G_KEYS,
	 .help = "public keys that may log in, one a line as OpenSSH writes them"},
	{.name = "max_auth_attempts", .type = ALK_OPT_INT, .flags = ALK_OPT_SERVE, .fallback = "10", .min = 1,
	 .max = 1000, .arg = "N", .group = G_KEYS, .help = "authentication attempts a connection has"},
	{.name = "penalty_time", .type = ALK_OPT_DURATION, .flags = ALK_OPT_SERVE, .fallback = "60s", .min = 0,
	 .max = DAYS(1), .arg = "TIME", .group = G_KEYS,
	 .help = "how long an address or identity that misbehaved is turned away; 0 is not at all"},

	{.name = "listen", .type = ALK_OPT_TABLE, .flags = ALK_OPT_SERVE | ALK_OPT_REPEAT, .arg = "ADDR:PORT",
	 .group = G_LISTEN,
	 .help = "an address to listen on, port 0 is any free one; without it 0.0.0.0:22 and [::]:22"},

	{.name = "max_connections_per_ip", .type = ALK_OPT_INT, .flags = ALK_OPT_SERVE, .fallback = "0", .min = 0,
	 .max = 1000000, .arg = "N", .group = G_LIMITS, .help = "connections one address may have; 0 is no limit"},
	{.name = "max_startups", .type = ALK_OPT_STRING, .flags = ALK_OPT_SERVE, .fallback = "10:30:100",
	 .arg = "START:RATE:FULL", .group = G_LIMITS,
	 .help = "connections not yet logged in: from START on a new one is dropped with RATE percent, from FULL on always"},
	{.name = "max_sessions", .type = ALK_OPT_INT, .flags = ALK_OPT_SERVE, .fallback = "0", .min = 0, .max = 1000000,
	 .arg = "N", .group = G_LIMITS, .help = "sessions in all; 0 is no limit"},
	{.name = "max_channels", .type = ALK_OPT_INT, .flags = ALK_OPT_SERVE, .fallback = "256", .min = 1, .max = 1024,
	 .arg = "N", .group = G_LIMITS, .help = "channels one session may have open"},
	{.name = "connect_timeout", .type = ALK_OPT_DURATION, .flags = ALK_OPT_SERVE, .fallback = "10s",
	 .min = SECONDS(1), .max = SECONDS(600), .arg = "TIME", .group = G_LIMITS,
	 .help = "how long a connection to a destination may take"},
	{.name = "keepalive", .type = ALK_OPT_DURATION, .flags = ALK_OPT_SERVE, .fallback = "30s", .min = 0,
	 .max = DAYS(1), .arg = "TIME", .group = G_LIMITS,
	 .help = "ask a client that is silent so long whether it is there; three questions without an answer end the session; 0 is never"},
	{.name = "rekey_bytes", .type = ALK_OPT_SIZE, .flags = ALK_OPT_SERVE, .fallback = "0", .min = 0,
	 .max = 1LL << 40, .arg = "SIZE", .group = G_LIMITS,
	 .help = "renew a session's keys after so much data; 0 is as the cipher needs it"},
	{.name = "rekey_time", .type = ALK_OPT_DURATION, .flags = ALK_OPT_SERVE, .fallback = "0", .min = 0,
	 .max = DAYS(7), .arg = "TIME", .group = G_LIMITS,
	 .help = "renew a session's keys after so long; 0 is never"},

	{.name = "workers", .type = ALK_OPT_INT, .flags = ALK_OPT_SERVE | ALK_OPT_AUTO, .fallback = "1", .min = 0,
	 .max = 256, .arg = "N|auto", .group = G_PROCESS,
	 .help = "worker processes; auto is one a core, 0 serves from the one process"},
	{.name = "user", .type = ALK_OPT_STRING, .flags = ALK_OPT_SERVE, .arg = "NAME", .group = G_PROCESS,
	 .help = "account that the workers change to when alknet was started as root"},
	{.name = "policy", .type = ALK_OPT_FILE, .flags = ALK_OPT_SERVE, .arg = "FILE", .group = G_PROCESS,
	 .help = "Lua script that decides who may do what; without it every login may forward"},
	{.name = "admin_socket", .type = ALK_OPT_PATH, .flags = ALK_OPT_SERVE, .fallback = "/run/alknet/admin.sock",
	 .arg = "PATH", .group = G_PROCESS, .help = "unix socket that alknet-admin speaks to; none is off"},
	{.name = "drain_timeout", .type = ALK_OPT_DURATION, .flags = ALK_OPT_SERVE | ALK_OPT_NO_FLAG, .fallback = "1h",
	 .min = 0, .max = DAYS(30), .arg = "TIME", .group = G_PROCESS,
	 .help = "how long sessions may go on after a drain has begun"},
	{.name = "watchdog_timeout", .type = ALK_OPT_DURATION, .flags = ALK_OPT_SERVE | ALK_OPT_NO_FLAG,
	 .fallback = "5s", .min = SECONDS(1), .max = SECONDS(600), .arg = "TIME", .group = G_PROCESS,
	 .help = "a worker that hangs for so long is replaced"},

	/* connect */
	{.name = "server", .type = ALK_OPT_STRING, .flags = ALK_OPT_CONNECT, .arg = "HOST[:PORT]", .group = G_SERVER,
	 .env = "ALKNET_SERVER", .help = "the server to connect to; the port is 22 if none is given"},
	{.name = "identity", .type = ALK_OPT_FILE, .flags = ALK_OPT_CONNECT | ALK_OPT_PRIVATE, .arg = "FILE",
	 .group = G_SERVER, .env = "ALKNET_IDENTITY",
	 .help = "your private key, an OpenSSH Ed25519 key that nobody else may read"},
	{.name = "user", .type = ALK_OPT_STRING, .flags = ALK_OPT_CONNECT, .arg = "NAME", .group = G_SERVER,
	 .help = "user name to log in with; without it your own"},
	{.name = "connect_timeout", .type = ALK_OPT_DURATION, .flags = ALK_OPT_CONNECT, .fallback = "30s",
	 .min = SECONDS(1), .max = SECONDS(600), .arg = "TIME", .group = G_SERVER,
	 .help = "how long it may take to reach the server"},
	{.name = "keepalive", .type = ALK_OPT_DURATION, .flags = ALK_OPT_CONNECT, .fallback = "15s", .min = 0,
	 .max = DAYS(1), .arg = "TIME", .group = G_SERVER,
	 .help = "ask the server so often whether it is there; three questions without an answer end the session; 0 is never"},
	{.name = "max_channels", .type = ALK_OPT_INT, .flags = ALK_OPT_CONNECT, .fallback = "1024", .min = 1,
	 .max = 1024, .arg = "N", .group = G_SERVER, .help = "connections that may go through the tunnel at once"},

	{.name = "known_hosts", .type = ALK_OPT_PATH, .flags = ALK_OPT_CONNECT, .arg = "FILE", .group = G_HOST_KEY,
	 .help = "host keys that are known; without it ~/.local/state/alknet/known_hosts"},
	{.name = "host_key_fingerprint", .type = ALK_OPT_STRING, .flags = ALK_OPT_CONNECT, .arg = "SHA256:...",
	 .group = G_HOST_KEY, .help = "the one host key to accept; known_hosts is not looked at then"},
	{.name = "accept_new_host_key", .type = ALK_OPT_BOOL, .flags = ALK_OPT_CONNECT, .fallback = "false",
	 .group = G_HOST_KEY, .help = "accept and remember the key of a server that is not known yet, without asking"},
	{.name = "hash_known_hosts", .type = ALK_OPT_BOOL, .flags = ALK_OPT_CONNECT, .fallback = "false",
	 .group = G_HOST_KEY, .help = "hide the names of servers that are remembered"},

	{.name = "socks5", .type = ALK_OPT_STRING, .flags = ALK_OPT_CONNECT, .fallback = "127.0.0.1:1080",
	 .arg = "ADDR:PORT", .group = G_LOCAL,
	 .help = "where to offer SOCKS5 and HTTP CONNECT, port 0 is any free one; none is off, as it is with --stdio"},
	{.name = "forward", .type = ALK_OPT_STRING, .flags = ALK_OPT_CONNECT | ALK_OPT_REPEAT, .arg = "SPEC",
	 .group = G_LOCAL,
	 .help = "[bind:]port:host:hostport or [bind:]port:/unix/path: connections to the port here go there from the server"},
	{.name = "stdio", .type = ALK_OPT_STRING, .flags = ALK_OPT_CONNECT, .arg = "HOST:PORT", .group = G_LOCAL,
	 .help = "join standard input and output with one connection, as ProxyCommand wants it"},

	/* both */
	{.name = "transport", .type = ALK_OPT_STRING, .flags = BOTH, .fallback = "tcp", .arg = "NAME",
	 .group = G_TRANSPORT, .help = "the plugin that links are made with"},
	{.name = "handshake_timeout", .type = ALK_OPT_DURATION, .flags = BOTH, .fallback = "30s", .min = SECONDS(1),
	 .max = SECONDS(600), .arg = "TIME", .group = G_TRANSPORT,
	 .help = "how long the handshake and the login may take together"},
	{.name = "plugin_dir", .type = ALK_OPT_PATH, .flags = BOTH, .fallback = PKGLIBDIR, .arg = "DIR",
	 .group = G_TRANSPORT, .env = "ALKNET_PLUGIN_DIR", .help = "where plugins are; an absolute path"},

	{.name = "log_level", .type = ALK_OPT_ENUM, .flags = ALK_OPT_SERVE, .fallback = "info",
	 .choices = "error|warn|info|debug", .arg = "LEVEL", .group = G_LOG,
	 .help = "how much is logged: error, warn, info or debug"},
	{.name = "log_level", .type = ALK_OPT_ENUM, .flags = ALK_OPT_CONNECT, .fallback = "warn",
	 .choices = "error|warn|info|debug", .arg = "LEVEL", .group = G_LOG,
	 .help = "how much is logged: error, warn, info or debug"},
	{.name = "log_format", .type = ALK_OPT_ENUM, .flags = BOTH, .fallback = "logfmt", .choices = "logfmt|json",
	 .arg = "FORMAT", .group = G_LOG, .help = "how a line looks: logfmt or json"},
	{.name = "log_target", .type = ALK_OPT_ENUM, .flags = BOTH, .fallback = "stderr", .choices = "stderr|syslog",
	 .arg = "TARGET", .group = G_LOG, .help = "where the log goes: stderr or syslog"},
	{0},
};

const char *alk_conf_command(enum alk_role role)
{
	return role == ALK_ROLE_CLIENT ? "connect" : "serve";
}

unsigned alk_conf_role_flag(enum alk_role role)
{
	return role == ALK_ROLE_CLIENT ? ALK_OPT_CONNECT : ALK_OPT_SERVE;
}

/* --- texts with a form of their own ------------------------------------------------------------------ */

int alk_max_startups_parse(const char *text, struct alk_max_startups *out, struct alk_err *err)
{
	int64_t part[3] = {0};
	char copy[64], shown[64], *rest = copy;
	bool good = strlen(text) < sizeof(copy);
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word; good && (word = strsep(&rest, ":")) != NULL; n++)
		good = n < 3 && alk_text_int(word, &part[n]) == 0 && part[n] >= 0 && part[n] <= 1000000;
	if (good && n == 3 && part[1] <= 100 && part[2] >= part[0]) {
		*out = (struct alk_max_startups){(unsigned)part[0], (unsigned)part[1], (unsigned)part[2]};
		return 0;
	}
	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	return alk_err_set(err, -EINVAL,
			   "must be START:RATE:FULL like 10:30:100, a percentage in the middle and FULL not below START, not \"%s\"",
			   shown);
}

/* One field up to a colon or the end, brackets taken off; *s goes behind the colon, NULL at the end. */
static int forward_field(const char **s, char *out, size_t size)
{
	const char *end, *next, *begin = *s;

	if (*begin == '[') {
		end = strchr(++begin, ']');
		if (end == NULL || (end[1] != ':' && end[1] != '\0'))
			return -EINVAL;
		next = end + 1;
	} else {
		end = next = strchrnul(begin, ':');
	}
	if ((size_t)(end - begin) >= size)
		return -EINVAL;
	memcpy(out, begin, (size_t)(end - begin));
	out[end - begin] = '\0';
	*s = *next == ':' ? next + 1 : NULL;
	return 0;
}

static int forward_port(const char *text, bool zero_ok, uint16_t *port)
{
	int64_t n;

	if (alk_text_int(text, &n) < 0 || n < (zero_ok ? 0 : 1) || n > 65535)
		return -EINVAL;
	*port = (uint16_t)n;
	return 0;
}

static int forward_path(const char *text, char *out, size_t size)
{
	if (strlen(text) >= size)
		return -EINVAL;
	strcpy(out, text);
	return 0;
}

static int forward_host(const char *host, const char *port, struct alk_forward *out)
{
	struct alk_sockaddr addr;

	/* Port 0 means something at a reserved destination alone. */
	if (forward_port(port, strncmp(host, "alknet-", 7) == 0, &out->host_port) < 0)
		return -EINVAL;
	if (alk_addr_parse(&addr, host, 1) < 0 && alk_addr_check_name(host, NULL) < 0)
		return -EINVAL;
	snprintf(out->host, sizeof(out->host), "%s", host);
	return 0;
}

/* Behind the port: host:hostport or /unix/path. */
static int forward_target(const char *s, struct alk_forward *out)
{
	char host[256], port[8];

	if (*s == '/')
		return forward_path(s, out->path, sizeof(out->path));
	if (forward_field(&s, host, sizeof(host)) < 0 || s == NULL ||
	    forward_field(&s, port, sizeof(port)) < 0 || s != NULL)
		return -EINVAL;
	return forward_host(host, port, out);
}

/* How many colons stand outside of brackets, up to a unix path. */
static unsigned forward_colons(const char *s)
{
	unsigned n = 0;
	bool inside = false;

	for (; *s != '\0' && (inside || *s != '/'); s++) {
		inside = *s == '[' || (inside && *s != ']');
		n += *s == ':' && !inside;
	}
	return n + (*s == '/' ? 1 : 0);
}

static int forward_listen(const char **s, struct alk_forward *out)
{
	char port[8];

	if (**s == '/') {
		if (forward_field(s, out->listen_path, sizeof(out->listen_path)) < 0 || *s == NULL)
			return -EINVAL;
		return 0;
	}
	strcpy(out->bind, "127.0.0.1");
	if (forward_colons(*s) == 3 && (forward_field(s, out->bind, sizeof(out->bind)) < 0 || *s == NULL))
		return -EINVAL;
	if (out->bind[0] == '\0')
		strcpy(out->bind, "*");
	if (forward_field(s, port, sizeof(port)) < 0 || *s == NULL)
		return -EINVAL;
	return forward_port(port, true, &out->port);
}

int alk_forward_parse(const char *spec, struct alk_forward *out, struct alk_err *err)
{
	const char *s = spec;
	char shown[128];

	*out = (struct alk_forward){0};
	if (forward_listen(&s, out) == 0 && forward_target(s, out) == 0)
		return 0;
	alk_text_escape(spec, strlen(spec), shown, sizeof(shown));
	return alk_err_set(err, -EINVAL,
			   "must be [bind:]port:host:hostport, [bind:]port:/unix/path or /unix/path:host:hostport (IPv6 in brackets), not \"%s\"",
			   shown);
}

/* --- what options say about one another -------------------------------------------------------------- */

/* Put the option as it was given before the sentence. */
static int blame(const struct alk_conf *conf, const char *name, int rc, struct alk_err *err)
{
	char given[512];

	alk_conf_given_as(conf, name, given, sizeof(given));
	return alk_err_prefix(err, rc, "%s", given);
}

static int serve_check(const struct alk_conf *conf, struct alk_err *err)
{
	const struct alk_options *values = conf->values;
	const char *user = alk_options_str(values, "user");
	struct alk_max_startups startups;
	int rc;

	if (!alk_options_has(values, "key"))
		return alk_err_set(err, -EINVAL,
				   "serve needs a host key: give --key FILE (ssh-keygen -t ed25519 -N '' -f FILE makes one)");
	if (!alk_options_has(values, "authorized_keys") && !alk_options_has(values, "policy"))
		return alk_err_set(err, -EINVAL,
				   "nobody could log in: give --authorized-keys FILE, or --policy FILE with an on_auth function");
	rc = alk_max_startups_parse(alk_options_str(values, "max_startups"), &startups, err);
	if (rc < 0)
		return blame(conf, "max_startups", rc, err);
	if (user != NULL && getpwnam(user) == NULL)
		return blame(conf, "user", alk_err_set(err, -ENOENT, "there is no account %s", user), err);
	return 0;
}

static int server_check(const char *text, struct alk_err *err)
{
	size_t len = strlen(text);
	bool brackets = text[0] == '[' && text[len - 1] == ']';
	struct alk_sockaddr addr;
	char host[256];
	uint16_t port;

	if (alk_addr_split(text, host, sizeof(host), &port, false, err) == 0 && host[0] != '\0')
		return 0;
	snprintf(host, sizeof(host), "%.*s", (int)(len - (brackets ? 2 : 0)), text + brackets);
	if (alk_addr_parse(&addr, host, 1) == 0)
		return 0;
	if (!brackets && strchr(text, ':') == NULL)
		return alk_addr_check_name(text, err);
	return alk_err_set(err, -EINVAL, "must be HOST or HOST:PORT, the port from 1 to 65535, not \"%s\"", host);
}

static int address_check(const char *text, bool zero_ok, struct alk_err *err)
{
	char host[256];
	uint16_t port;

	return alk_addr_split(text, host, sizeof(host), &port, zero_ok, err);
}

/* The server takes the same. */
static int user_check(const char *text, struct alk_err *err)
{
	if (strlen(text) > 64)
		return alk_err_set(err, -EINVAL, "must not be longer than 64 bytes");
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
		if (*c < 0x20 || *c == 0x7f)
			return alk_err_set(err, -EINVAL, "must not hold control characters");
	return 0;
}

static int fingerprint_check(const char *text, struct alk_err *err)
{
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	if (strncmp(text, "SHA256:", 7) == 0 && strspn(text + 7, base64) == 43 && strlen(text) == 50)
		return 0;
	return alk_err_set(err, -EINVAL, "must be SHA256: and 43 characters, as ssh-keygen -l -f FILE prints it");
}

static int forwards_check(const struct alk_conf *conf, struct alk_err *err)
{
	struct alk_forward forward;
	const char *text;

	for (size_t i = 0; (text = alk_options_nth(conf->values, "forward", i)) != NULL; i++) {
		int rc = alk_forward_parse(text, &forward, err);

		if (rc < 0)
			return blame(conf, "forward", rc, err);
	}
	return 0;
}

static int connect_check(const struct alk_conf *conf, struct alk_err *err)
{
	const struct alk_options *values = conf->values;
	const char *text, *name;
	int rc;

	if (!alk_options_has(values, "server"))
		return alk_err_set(err, -EINVAL, "connect needs a server: give --server HOST[:PORT] or set ALKNET_SERVER");
	if (!alk_options_has(values, "identity"))
		return alk_err_set(err, -EINVAL,
				   "connect needs a private key: give --identity FILE or set ALKNET_IDENTITY");
	rc = server_check(alk_options_str(values, name = "server"), err);
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

int alk_conf_cross_check(struct alk_conf *conf, struct alk_err *err)
{
	return conf->role == ALK_ROLE_CLIENT ? connect_check(conf, err) : serve_check(conf, err);
}
