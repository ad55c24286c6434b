/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One verdict: may the holder of this certificate come in as that user, from there, now? */
#include <errno.h>
#include <string.h>
#include "cert_private.h"
#include "cidr.h"
#include "text.h"

#define SHOWN_MAX 64

struct option {
	const uint8_t *name;
	size_t name_len;
	struct alk_wire value;
};

/* A critical option that is known: may this one be honoured? */
struct rule {
	const char *name;
	enum alk_cert_verdict (*check)(struct alk_wire value, const struct alk_cert_ask *ask,
				       struct alk_err *err);
};

static enum alk_cert_verdict refuse(struct alk_err *err, enum alk_cert_verdict verdict)
{
	alk_err_set(err, -EACCES, "%s", alk_cert_verdict_str(verdict));
	return verdict;
}

static enum alk_cert_verdict refuse_option(struct alk_err *err, const char *why)
{
	alk_err_set(err, -EACCES, "%s", why);
	return ALK_CERT_OPTION;
}

static enum alk_cert_verdict refuse_named(struct alk_err *err, const char *what,
					  const struct option *option, const char *why)
{
	char shown[SHOWN_MAX];

	alk_text_escape((const char *)option->name, option->name_len, shown, sizeof(shown));
	alk_err_set(err, -EACCES, "%s `%s`%s", what, shown, why);
	return ALK_CERT_OPTION;
}

static bool option_next(struct alk_wire *list, struct option *option)
{
	return alk_wire_string(list, &option->name, &option->name_len) &&
	       alk_wire_string(list, &option->value.p, &option->value.left);
}

/* A list as "10.0.0.0/8,::1". True when all of it can be read; then `found` says whether an entry
 * has the address. An IPv6 entry never has an IPv4 address. */
static bool addresses_read(const uint8_t *list, size_t len, const char *remote, bool *found)
{
	struct in6_addr addr;
	bool v4 = false, known = remote && alk_cidr_address(remote, &addr, &v4);

	v4 = v4 || (known && IN6_IS_ADDR_V4MAPPED(&addr));
	*found = false;
	for (const uint8_t *p = list, *end = list + len;; p++) {
		const uint8_t *comma = memchr(p, ',', (size_t)(end - p));
		size_t n = (size_t)((comma ? comma : end) - p);
		struct alk_cidr net;
		char entry[64];

		if (n >= sizeof(entry) || memchr(p, '\0', n))
			return false;
		memcpy(entry, p, n);
		entry[n] = '\0';
		if (alk_cidr_parse(&net, entry))
			return false;
		if (known && net.v4 == v4 && alk_cidr_has(&net, &addr))
			*found = true;
		if (!comma)
			return true;
		p = comma;
	}
}

static enum alk_cert_verdict check_source_address(struct alk_wire value,
						  const struct alk_cert_ask *ask,
						  struct alk_err *err)
{
	const uint8_t *list;
	size_t len;
	bool found;

	if (!alk_wire_string(&value, &list, &len) || value.left != 0 ||
	    !addresses_read(list, len, ask->remote_addr, &found))
		return refuse_option(err, "critical option `source-address` is damaged");
	return found ? ALK_CERT_OK : refuse(err, ALK_CERT_ADDRESS);
}

static enum alk_cert_verdict check_force_command(struct alk_wire value,
						 const struct alk_cert_ask *ask,
						 struct alk_err *err)
{
	(void)value;
	(void)ask;
	return refuse_option(
		err, "critical option `force-command` cannot be honoured: there is no shell");
}

/* It speaks of the signatures of FIDO keys, whose certificates are not taken: nothing is asked of
 * others. */
static enum alk_cert_verdict check_verify_required(struct alk_wire value,
						   const struct alk_cert_ask *ask,
						   struct alk_err *err)
{
	(void)ask;
	return value.left == 0 ? ALK_CERT_OK
			       : refuse_option(err, "critical option `verify-required` is damaged");
}

static const struct rule rules[] = {
	{"source-address", check_source_address},
	{"force-command", check_force_command},
	{"verify-required", check_verify_required},
};

static const struct rule *rule_find(const struct option *option)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
		if (alk_key_name_is(option->name, option->name_len, rules[i].name))
			return &rules[i];
	return NULL;
}

static enum alk_cert_verdict check_critical(const struct alk_cert *cert,
					    const struct alk_cert_ask *ask, struct alk_err *err)
{
	struct alk_wire list = {cert->critical, cert->critical_len};
	bool seen[sizeof(rules) / sizeof(*rules)] = {false};
	struct option option;

	while (option_next(&list, &option)) {
		const struct rule *rule = rule_find(&option);
		enum alk_cert_verdict verdict;

		if (!rule)
			return refuse_named(err, "unknown critical option", &option, "");
		if (seen[rule - rules])
			return refuse_named(err, "critical option", &option, " is there twice");
		seen[rule - rules] = true;
		verdict = rule->check(option.value, ask, err);
		if (verdict != ALK_CERT_OK)
			return verdict;
	}
	return ALK_CERT_OK;
}

/* Extensions that are not known are passed over; those that are carry nothing. */
static enum alk_cert_verdict check_extensions(const struct alk_cert *cert, struct alk_err *err)
{
	static const char *const flags[] = {
		"no-touch-required",
		"permit-X11-forwarding",
		"permit-agent-forwarding",
		"permit-port-forwarding",
		"permit-pty",
		"permit-user-rc",
	};
	struct alk_wire list = {cert->extensions, cert->extensions_len};
	struct option option;

	while (option_next(&list, &option))
		for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
			if (option.value.left != 0 &&
			    alk_key_name_is(option.name, option.name_len, flags[i]))
				return refuse_named(err, "extension", &option, " is damaged");
	return ALK_CERT_OK;
}

static bool has_principal(const struct alk_cert *cert, const char *name, size_t len)
{
	for (size_t i = 0; i < cert->n_principals; i++)
		if (strlen(cert->principal[i]) == len && memcmp(cert->principal[i], name, len) == 0)
			return true;
	return false;
}

/* Names are compared whole: a principal with a comma in it is one name, and equals none of the
 * list. */
static bool has_one_of(const struct alk_cert *cert, const char *list)
{
	size_t len;

	for (; (len = strcspn(list, ",")) > 0; list += len + 1) {
		if (has_principal(cert, list, len))
			return true;
		if (list[len] == '\0')
			break;
	}
	return false;
}

static enum alk_cert_verdict check_principals(const struct alk_cert *cert,
					      const struct alk_cert_ask *ask, struct alk_err *err)
{
	bool good;

	if (ask->principals)
		good = has_one_of(cert, ask->principals);
	else if (cert->n_principals == 0)
		return ask->principals_optional ? ALK_CERT_OK : refuse(err, ALK_CERT_NO_PRINCIPALS);
	else
		good = ask->user && has_principal(cert, ask->user, strlen(ask->user));
	return good ? ALK_CERT_OK : refuse(err, ALK_CERT_PRINCIPAL);
}

static enum alk_cert_verdict check_signature(struct alk_cert *cert, struct alk_err *err)
{
	struct alk_key_bytes ca = {cert->ca, cert->ca_len};
	struct alk_key_bytes signature = {cert->signature, cert->signature_len};
	struct alk_key_bytes under = {cert->blob, cert->signed_len};
	enum alk_cert_verdict verdict;

	if (cert->signature_good)
		return ALK_CERT_OK;
	verdict = alk_signature_check(ca, signature, under, err);
	if (verdict != ALK_CERT_OK)
		alk_err_prefix(err, 0, "authority");
	cert->signature_good = verdict == ALK_CERT_OK;
	return verdict;
}

static enum alk_cert_verdict check_time(const struct alk_cert *cert, int64_t now,
					struct alk_err *err)
{
	if (now < 0 || (uint64_t)now < cert->valid_after)
		return refuse(err, ALK_CERT_NOT_YET);
	if ((uint64_t)now >= cert->valid_before)
		return refuse(err, ALK_CERT_EXPIRED);
	return ALK_CERT_OK;
}

enum alk_cert_verdict alk_cert_check(struct alk_cert *cert, const struct alk_cert_ask *ask,
				     struct alk_err *err)
{
	enum alk_cert_verdict verdict;

	if (!ask->trusted)
		return refuse(err, ALK_CERT_UNTRUSTED);
	if (alk_krl_has_cert(ask->krl, cert))
		return refuse(err, ALK_CERT_REVOKED);
	verdict = check_signature(cert, err);
	if (verdict == ALK_CERT_OK && cert->kind != ALK_CERT_KIND_USER)
		verdict = refuse(err, ALK_CERT_NOT_USER);
	if (verdict == ALK_CERT_OK)
		verdict = check_time(cert, ask->now, err);
	if (verdict == ALK_CERT_OK)
		verdict = check_principals(cert, ask, err);
	if (verdict == ALK_CERT_OK)
		verdict = check_critical(cert, ask, err);
	if (verdict == ALK_CERT_OK)
		verdict = check_extensions(cert, err);
	return verdict;
}

const char *alk_cert_verdict_str(enum alk_cert_verdict verdict)
{
	static const char *const texts[] = {
#define X(name_, text_) text_,
		ALK_CERT_VERDICTS(X)
#undef X
	};

	return (unsigned)verdict < sizeof(texts) / sizeof(*texts) ? texts[verdict] : "unknown";
}
