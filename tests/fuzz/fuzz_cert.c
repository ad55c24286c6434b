/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Certificates: what is taken hangs together, and there is one verdict, with a reason unless it is
 * good. */
#include "cert.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(int yes)
{
	if (!yes)
		abort();
}

static void check_text(const char *text)
{
	require(*text != '\0');
	for (; *text; text++)
		require(*text >= ' ' && *text < 0x7f);
}

static void check_fields(const struct alk_cert *cert, size_t n)
{
	struct alk_wire key = {cert->key, cert->key_len}, ca = {cert->ca, cert->ca_len};
	const uint8_t *data;
	size_t len;

	require(strcmp(alk_cert_key_type(cert->type), cert->key_type) == 0);
	require(alk_wire_string(&key, &data, &len) && len == strlen(cert->key_type));
	require(memcmp(data, cert->key_type, len) == 0);
	while (key.left > 0)
		require(alk_wire_string(&key, &data, &len));
	require(alk_wire_string(&ca, &data, &len));
	require(cert->kind == ALK_CERT_KIND_USER || cert->kind == ALK_CERT_KIND_HOST);
	require(cert->n_principals <= ALK_CERT_PRINCIPALS_MAX);
	for (size_t i = 0; i < cert->n_principals; i++)
		require(strlen(cert->principal[i]) < n);
	require(strlen(cert->key_id) < n);
}

static enum alk_cert_verdict check(struct alk_cert *cert, const struct alk_cert_ask *ask)
{
	struct alk_err err = {""};
	enum alk_cert_verdict verdict = alk_cert_check(cert, ask, &err);

	require(verdict <= ALK_CERT_OK);
	if (verdict == ALK_CERT_OK)
		require(err.text[0] == '\0');
	else
		check_text(err.text);
	return verdict;
}

static void judge(struct alk_cert *cert)
{
	struct alk_cert_ask ask = {.now = 1800000000, .user = "alice", .remote_addr = "192.0.2.7"};

	require(check(cert, &ask) == ALK_CERT_UNTRUSTED);
	ask.trusted = true;
	if (check(cert, &ask) == ALK_CERT_OK)
		require(cert->signature_good);
	/* Nobody forges a signature by chance: behind it are the options, which are of interest. */
	cert->signature_good = true;
	check(cert, &ask);
	ask.principals_optional = true;
	ask.remote_addr = "2001:db8::1";
	check(cert, &ask);
	ask.principals = "alice,bob,,eve";
	ask.remote_addr = NULL;
	ask.now = (int64_t)(cert->valid_after / 2 + cert->valid_before / 2);
	check(cert, &ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct alk_err err = {""};
	struct alk_cert *cert = alk_cert_parse(bytes, n, &err);

	if (!cert) {
		check_text(err.text);
		return 0;
	}
	check_fields(cert, n);
	judge(cert);
	alk_cert_free(&cert);
	return 0;
}
