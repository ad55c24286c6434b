/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "acme_settings.h"
#include "acme.h"
#include "acme_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define SETTINGS_MAX (ACME_PACKET_MAX - (size_t)16 * 1024)

bool acme_wanted(const struct alk_options *options)
{
	return alk_options_has(options, "acme_domain");
}

/* Lower case, letters, digits and dashes between dots. */
static bool is_host(char *name)
{
	size_t label = 0, n = strlen(name);

	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i <= n; i++) {
		char *c = &name[i];

		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c + ('a' - 'A'));
		if (*c == '.' || *c == '\0') {
			if (label == 0 || label > 63 || name[i - 1] == '-')
				return false;
			label = 0;
		} else if ((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') ||
			   (*c == '-' && label > 0)) {
			label++;
		} else {
			return false;
		}
	}
	return true;
}

static int name_check(const char *given, char name[256], struct alk_err *err)
{
	uint8_t address[16];

	if (strlen(given) < 256)
		strcpy(name, given);
	else
		name[0] = '\0';
	for (int family = AF_INET; inet_pton(family, name, address) == 1;)
		return inet_ntop(family, address, name, 256) != NULL ? 0 : -errno;
	if (inet_pton(AF_INET6, name, address) == 1)
		return inet_ntop(AF_INET6, address, name, 256) != NULL ? 0 : -errno;
	if (name[0] == '*')
		return alk_err_set(
			err, -EINVAL,
			"acme_domain: %s: a wildcard needs a proof by DNS, which alknet does not make: give each name",
			given);
	if (!is_host(name))
		return alk_err_set(
			err, -EINVAL,
			"acme_domain: %.260s is neither a host name nor an IP address (a name with other letters is written as xn--...)",
			given);
	return 0;
}

static int names_make(const struct alk_options *options, json_t *names, struct alk_err *err)
{
	const char *given;
	char name[256];
	int rc = 0;

	for (size_t i = 0; rc == 0 && (given = alk_options_nth(options, "acme_domain", i)) != NULL;
	     i++) {
		if (i == ACME_NAMES_MAX)
			return alk_err_set(err, -E2BIG, "acme_domain: there are more than %d names",
					   ACME_NAMES_MAX);
		rc = name_check(given, name, err);
		if (rc == 0 && json_array_append_new(names, json_string(name)) < 0)
			rc = alk_err_set(err, -ENOMEM, "out of memory");
	}
	return rc;
}

static int http_check(const char *address, struct alk_err *err)
{
	struct addrinfo *found;
	int rc;

	if (strcmp(address, ACME_HTTP_STEALTH) == 0)
		return 0;
	rc = acme_address_find(address, &found, err);
	if (rc == 0)
		freeaddrinfo(found);
	return rc;
}

static int texts_check(const struct alk_options *options, struct alk_err *err)
{
	const char *url = alk_options_str(options, "acme_directory");
	const char *email = alk_options_str(options, "acme_email");
	const char *ca = alk_options_file(options, "acme_ca_file", 0, NULL);

	if (strncmp(url, "https://", 8) != 0 || url[8] == '\0')
		return alk_err_set(err, -EINVAL, "acme_directory: %s does not begin with https://",
				   url);
	if (email != NULL && (strchr(email, '@') == NULL || strpbrk(email, " ,?\r\n") != NULL))
		return alk_err_set(err, -EINVAL, "acme_email: %s is not an address", email);
	if (ca != NULL && strstr(ca, "-----BEGIN CERTIFICATE-----") == NULL)
		return alk_err_set(err, -EINVAL, "acme_ca_file: %s holds no PEM certificate",
				   alk_options_str(options, "acme_ca_file"));
	return http_check(alk_options_str(options, "acme_http"), err);
}

/* Is it one packet, with what is said besides? */
static int size_check(const struct alk_options *options, const json_t *settings,
		      struct alk_err *err)
{
	if (json_dumpb(settings, NULL, 0, JSON_COMPACT) <= SETTINGS_MAX)
		return 0;
	return alk_err_set(
		err, -E2BIG,
		"acme_ca_file: %s is larger than %zu KiB: give the certificate of the CA's authority alone",
		alk_options_str(options, "acme_ca_file"), SETTINGS_MAX / 1024);
}

int acme_settings_make(const struct alk_options *options, json_t **settings, struct alk_err *err)
{
	json_t *names = json_array();
	int rc = texts_check(options, err);

	if (rc == 0)
		rc = names_make(options, names, err);
	*settings = NULL;
	if (rc == 0) {
		*settings = json_pack("{s:s, s:s*, s:s*, s:s, s:s, s:s, s:O}", "directory",
				      alk_options_str(options, "acme_directory"), "email",
				      alk_options_str(options, "acme_email"), "ca",
				      alk_options_file(options, "acme_ca_file", 0, NULL),
				      "state_dir", alk_options_str(options, "acme_state_dir"),
				      "challenge", alk_options_str(options, "acme_challenge"),
				      "http", alk_options_str(options, "acme_http"), "names",
				      names);
		if (*settings == NULL)
			rc = alk_err_set(err, -EINVAL,
					 "the options of ACME are not text, or memory is out");
		else
			rc = size_check(options, *settings, err);
	}
	json_decref(names);
	return rc;
}
