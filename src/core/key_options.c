/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "key_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "cidr.h"
#include "policy.h"
#include "text.h"

#define NAME_MAX_LEN 32
#define PERMITS_MAX 4096
#define ENTRY_MAX 255 /* of from= */

struct cursor {
	const char *p, *end;
};

/* ---- from= ----------------------------------------------------------------------------------- */

/* One entry of the list: a network, or a pattern. */
struct from {
	bool negated, network;
	struct alk_cidr cidr;
	char text[ENTRY_MAX + 1];
};

/* An entry that looks like an address but is none would match nothing, and, negated, keep nobody
 * out. */
static bool looks_like_address(const char *text)
{
	size_t digits = strspn(text, "0123456789.");

	if (strchr(text, '/') || (digits > 0 && text[digits] == '\0'))
		return true;
	return strchr(text, ':') && strspn(text, "0123456789abcdefABCDEF.:") == strlen(text);
}

/* NULL, or why it is none. */
static const char *from_read(struct from *from, const char *entry, size_t len)
{
	from->negated = len > 0 && entry[0] == '!';
	entry += from->negated;
	len -= from->negated;
	if (len == 0)
		return "from= has an empty entry";
	if (len > ENTRY_MAX)
		return "from= has an entry of more than 255 bytes";
	memcpy(from->text, entry, len);
	from->text[len] = '\0';
	from->network = alk_cidr_parse(&from->cidr, from->text) == NULL;
	if (!from->network && looks_like_address(from->text))
		return "from= has an entry that is neither an address nor a network: write it as "
		       "10.0.0.0/8, with no bits set behind the length";
	return NULL;
}

static const char *from_check(const char *list)
{
	struct from from;

	for (;; list++) {
		size_t len = strcspn(list, ",");
		const char *why = from_read(&from, list, len);

		if (why)
			return why;
		list += len;
		if (!*list)
			return NULL;
	}
}

static bool from_matches(const struct from *from, const char *remote_addr)
{
	struct in6_addr addr;
	bool v4;

	if (!from->network)
		return alk_text_glob(remote_addr, strlen(remote_addr), from->text,
				     strlen(from->text), true);
	/* A network of one family has nothing of the other: ::/0 is not everything. */
	return alk_cidr_address(remote_addr, &addr, &v4) && v4 == from->cidr.v4 &&
	       alk_cidr_has(&from->cidr, &addr);
}

bool alk_key_options_from(const char *list, const char *remote_addr)
{
	bool found = false;
	struct from from;

	for (;; list++) {
		size_t len = strcspn(list, ",");

		if (from_read(&from, list, len))
			return false;
		if (from_matches(&from, remote_addr)) {
			if (from.negated)
				return false;
			found = true;
		}
		list += len;
		if (!*list)
			return found;
	}
}

/* ---- the values ------------------------------------------------------------------------------ */

static int digits(const char *text, size_t n)
{
	int value = 0;

	for (; n > 0; n--, text++)
		value = value * 10 + (*text - '0');
	return value;
}

/* YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, local time, or with Z or UTC behind. 0 when it is
 * none. */
static int64_t time_read(const char *text)
{
	size_t len = strlen(text), n = strspn(text, "0123456789");
	bool utc = strcasecmp(text + n, "Z") == 0 || strcasecmp(text + n, "UTC") == 0;
	struct tm tm = {.tm_isdst = -1};
	int64_t when;

	if ((n != len && !utc) || (n != 8 && n != 12 && n != 14))
		return 0;
	tm.tm_year = digits(text, 4) - 1900;
	tm.tm_mon = digits(text + 4, 2) - 1;
	tm.tm_mday = digits(text + 6, 2);
	if (n >= 12) {
		tm.tm_hour = digits(text + 8, 2);
		tm.tm_min = digits(text + 10, 2);
	}
	if (n == 14)
		tm.tm_sec = digits(text + 12, 2);
	if (tm.tm_mon < 0 || tm.tm_mon > 11 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 61)
		return 0;
	when = utc ? timegm(&tm) : mktime(&tm);
	return when > 0 ? when : 0;
}

static const char *take_expiry(struct alk_key_options *o, char *value)
{
	int64_t when = time_read(value);

	if (when == 0)
		return "expiry-time= is no time: write it as YYYYMMDD, YYYYMMDDHHMM or "
		       "YYYYMMDDHHMMSS, with a Z behind for UTC";
	if (o->expires == 0 || when < o->expires)
		o->expires = when;
	return NULL;
}

static const char *take_once(char **where, char *value, const char *twice)
{
	if (*where)
		return twice;
	*where = strdup(value);
	return *where ? NULL : "";
}

static const char *take_principals(struct alk_key_options *o, char *value)
{
	return take_once(&o->principals, value, "principals= stands there twice");
}

static const char *take_from(struct alk_key_options *o, char *value)
{
	const char *why = from_check(value);

	return why ? why : take_once(&o->from, value, "from= stands there twice");
}

static const char *take_permit(char ***list, size_t *n, char *value)
{
	char **grown;

	if (*n == PERMITS_MAX)
		return "there are more than 4096 permissions";
	grown = reallocarray(*list, *n + 2, sizeof(*grown));
	if (!grown)
		return "";
	*list = grown;
	grown[*n] = strdup(value);
	grown[*n + 1] = NULL;
	return grown[(*n)++] ? NULL : "";
}

static const char *take_open(struct alk_key_options *o, char *value)
{
	if (!alk_grant_permit_valid(value, false))
		return "permitopen= must be HOST:PORT, the port a number or *, IPv6 in brackets";
	return take_permit(&o->permit_open, &o->n_open, value);
}

static const char *take_listen(struct alk_key_options *o, char *value)
{
	if (!alk_grant_permit_valid(value, true))
		return "permitlisten= must be PORT or HOST:PORT, the port a number or *, IPv6 in "
		       "brackets";
	return take_permit(&o->permit_listen, &o->n_listen, value);
}

static const char *take_environment(struct alk_key_options *o, char *value)
{
	size_t n = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

	(void)o;
	return n > 0 && value[n] == '=' ? NULL : "environment= must be NAME=VALUE";
}

static const char *take_tunnel(struct alk_key_options *o, char *value)
{
	int64_t n;

	(void)o;
	if (strcasecmp(value, "any") == 0 ||
	    (alk_text_int(value, &n) == 0 && n >= 0 && n <= INT32_MAX - 2))
		return NULL;
	return "tunnel= must be a number";
}

static const char *take_command(struct alk_key_options *o, char *value)
{
	(void)o;
	(void)value;
	return NULL;
}

struct value_option {
	const char *name;
	/* NULL, or why not; "" when out of memory. */
	const char *(*take)(struct alk_key_options *options, char *value);
	bool once;
};

static const struct value_option value_options[] = {
	{"command", take_command, true},	{"environment", take_environment, false},
	{"expiry-time", take_expiry, false},	{"from", take_from, false},
	{"permitlisten", take_listen, false},	{"permitopen", take_open, false},
	{"principals", take_principals, false}, {"tunnel", take_tunnel, false},
};

/* ---- the flags ------------------------------------------------------------------------------- */

enum effect {
	EFFECT_NONE, /* of a shell */
	EFFECT_AUTHORITY,
	EFFECT_RESTRICT,
	EFFECT_FORWARDING,
};

static const struct flag_option {
	const char *name;
	bool negatable; /* "no-" may stand before it */
	enum effect effect;
} flag_options[] = {
	{"agent-forwarding", true, EFFECT_NONE},
	{"cert-authority", false, EFFECT_AUTHORITY},
	{"port-forwarding", true, EFFECT_FORWARDING},
	{"pty", true, EFFECT_NONE},
	{"restrict", false, EFFECT_RESTRICT},
	{"touch-required", true, EFFECT_NONE},
	{"user-rc", true, EFFECT_NONE},
	{"verify-required", true, EFFECT_NONE},
	{"x11-forwarding", true, EFFECT_NONE},
};

static bool flag_take(struct alk_key_options *o, const char *name)
{
	bool no = strncasecmp(name, "no-", 3) == 0;
	const struct flag_option *flag = NULL;

	for (size_t i = 0; i < sizeof(flag_options) / sizeof(*flag_options) && !flag; i++)
		if (strcasecmp(name + (no ? 3 : 0), flag_options[i].name) == 0)
			flag = &flag_options[i];
	if (!flag || (no && !flag->negatable))
		return false;
	if (flag->effect == EFFECT_AUTHORITY)
		o->cert_authority = true;
	else if (flag->effect == EFFECT_RESTRICT)
		o->no_forwarding = true;
	else if (flag->effect == EFFECT_FORWARDING)
		o->no_forwarding = no;
	return true;
}

/* ---- the text -------------------------------------------------------------------------------- */

static int refuse(char *why, size_t size, const char *text)
{
	if (!*text)
		return -ENOMEM;
	snprintf(why, size, "%s", text);
	return -EINVAL;
}

/* A name is letters, digits and hyphens: it may be shown as it is. */
static bool name_read(struct cursor *c, char *name)
{
	size_t n = 0;

	while (c->p < c->end && (isalnum((unsigned char)*c->p) || *c->p == '-')) {
		if (n == NAME_MAX_LEN)
			return false;
		name[n++] = *c->p++;
	}
	name[n] = '\0';
	return n > 0;
}

/* What stands in double quotes, \" being one that does not end it. Gives the text, to be freed;
 * NULL with errno. */
static char *quoted_read(struct cursor *c)
{
	char *value;
	size_t n = 0;

	if (c->p == c->end || *c->p != '"') {
		errno = EINVAL;
		return NULL;
	}
	value = malloc((size_t)(c->end - c->p));
	if (!value)
		return NULL;
	for (c->p++; c->p < c->end && *c->p != '"'; c->p++) {
		if (c->p[0] == '\\' && c->p + 1 < c->end && c->p[1] == '"')
			c->p++;
		value[n++] = *c->p;
	}
	if (c->p == c->end) {
		free(value);
		errno = EINVAL;
		return NULL;
	}
	c->p++;
	value[n] = '\0';
	return value;
}

static int value_take(struct alk_key_options *o, const struct value_option *option,
		      struct cursor *c, char *why, size_t size)
{
	const char *bad;
	char *value;

	c->p++; /* the = */
	value = quoted_read(c);
	if (!value && errno == ENOMEM)
		return -ENOMEM;
	if (!value) {
		snprintf(why, size, "%s= must be followed by a text in double quotes",
			 option->name);
		return -EINVAL;
	}
	bad = option->take(o, value);
	free(value);
	return bad ? refuse(why, size, bad) : 0;
}

static const struct value_option *value_option_find(const char *name)
{
	for (size_t i = 0; i < sizeof(value_options) / sizeof(*value_options); i++)
		if (strcasecmp(name, value_options[i].name) == 0)
			return &value_options[i];
	return NULL;
}

static int option_take(struct alk_key_options *o, struct cursor *c, unsigned *seen, char *why,
		       size_t size)
{
	const struct value_option *option;
	char name[NAME_MAX_LEN + 1];

	if (!name_read(c, name))
		return refuse(why, size, "there is an option that is not known");
	option = value_option_find(name);
	if (option && c->p < c->end && *c->p == '=') {
		unsigned bit = 1u << (option - value_options);

		if (option->once && (*seen & bit)) {
			snprintf(why, size, "%s= stands there twice", option->name);
			return -EINVAL;
		}
		*seen |= bit;
		return value_take(o, option, c, why, size);
	}
	if (flag_take(o, name))
		return 0;
	snprintf(why, size, option ? "the option %s needs a value" : "there is no option %s", name);
	return -EINVAL;
}

int alk_key_options_parse(struct alk_key_options *o, const char *text, size_t len, char *why,
			  size_t size)
{
	struct cursor c = {text, text + len};
	unsigned seen = 0;
	int rc;

	*o = (struct alk_key_options){0};
	while (c.p < c.end) {
		if (*c.p != ',') { /* nothing between two commas is no option */
			rc = option_take(o, &c, &seen, why, size);
			if (rc < 0)
				return rc;
		}
		if (c.p < c.end && *c.p++ != ',')
			return refuse(why, size,
				      "there is something else than a comma behind an option");
	}
	if (o->principals && !o->cert_authority)
		return refuse(why, size,
			      "principals= says whom an authority may name, so cert-authority must "
			      "stand there too");
	return 0;
}

static void list_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

void alk_key_options_deinit(struct alk_key_options *o)
{
	free(o->principals);
	free(o->from);
	list_free(o->permit_open);
	list_free(o->permit_listen);
	*o = (struct alk_key_options){0};
}
