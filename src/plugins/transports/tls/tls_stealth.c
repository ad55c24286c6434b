/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The settings of stealth, and the key that says "I am one of yours" for one TLS connection
 * alone. */
#include "tls.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 32 bytes in base64: 43 characters and one =. */
#define SECRET_TEXT_LEN 44

static int secret_load(struct tls *tls, struct alk_err *err)
{
	const char *text = alk_options_str(tls->options, "stealth_secret");
	uint8_t bytes[SECRET_TEXT_LEN / 4 * 3];
	size_t len = text != NULL ? strcspn(text, "\r\n") : 0;

	if (text == NULL)
		return 0;
	if (len != SECRET_TEXT_LEN || text[len - 1] != '=' || text[len - 2] == '=' ||
	    text[len + strspn(text + len, "\r\n")] != '\0' ||
	    EVP_DecodeBlock(bytes, (const unsigned char *)text, SECRET_TEXT_LEN) != sizeof(bytes))
		return alk_err_set(
			err, -EINVAL,
			"stealth_secret: must be 32 bytes in base64, as \"alknet secret new\" prints them");
	memcpy(tls->secret, bytes, sizeof(tls->secret));
	OPENSSL_cleanse(bytes, sizeof(bytes));
	tls->keyed = true;
	return 0;
}

/* HOST:PORT or /PATH. */
static int upstream_load(struct tls *tls, struct alk_err *err)
{
	const char *text = alk_options_str(tls->options, "stealth_upstream");
	struct alk_destination *to = &tls->upstream;
	int rc = 0;

	if (text == NULL)
		return 0;
	if (text[0] == '/') {
		if (strlen(text) >= sizeof(to->path))
			rc = alk_err_set(err, -EINVAL, "the path is too long");
		else
			snprintf(to->path, sizeof(to->path), "%s", text);
	} else {
		rc = alk_addr_split(text, to->host, sizeof(to->host), &to->port, false, err);
		if (rc == 0 && to->host[0] == '\0')
			rc = alk_err_set(err, -EINVAL, "must be HOST:PORT or /PATH, not \"%s\"",
					 text);
	}
	snprintf(to->via, sizeof(to->via), "none");
	tls->has_upstream = rc == 0;
	return rc < 0 ? alk_err_prefix(err, rc, "stealth_upstream") : 0;
}

/* Tests do not wait for minutes: ALKNET_STEALTH_SCALE=10 makes a web server's times ten times
 * shorter. */
static void times_load(struct tls *tls)
{
	const char *text = getenv("ALKNET_STEALTH_SCALE");
	long asked = text != NULL ? strtol(text, NULL, 10) : 1;
	unsigned scale = asked >= 1 && asked <= 100 ? (unsigned)asked : 1;
	struct stealth_times *times = &tls->times;

	*times = stealth_times;
	times->header /= scale;
	times->body /= scale;
	times->keepalive /= scale;
	times->send /= scale;
	times->linger_idle /= scale;
	times->linger_all /= scale;
}

int tls_stealth_init(struct tls *tls, struct alk_err *err)
{
	int rc = secret_load(tls, err);

	times_load(tls);
	if (rc == 0 && tls->role != ALK_ROLE_CLIENT) {
		tls->stealth = alk_options_bool(tls->options, "stealth");
		rc = upstream_load(tls, err);
		if (rc == 0 && !tls->stealth && (tls->keyed || tls->has_upstream))
			rc = alk_err_set(err, -EINVAL,
					 "%s: means nothing without --stealth (stealth = true)",
					 tls->keyed ? "stealth_secret" : "stealth_upstream");
	}
	return rc;
}

static void base64url(char *text)
{
	for (; *text != '\0'; text++)
		*text = *text == '+' ? '-' : *text == '/' ? '_' : *text;
}

/* What both ends know of this connection and nobody else, and no other connection has (RFC
 * 5705). */
int tls_stealth_token(const struct tls_conn *conn, char token[STEALTH_TOKEN_LEN + 1])
{
	static const char label[] = "EXPORTER-alknet-stealth";
	uint8_t exported[32], mac[EVP_MAX_MD_SIZE];
	char text[48];
	unsigned len = 0;
	int rc = 0;

	/* Without an extended master secret (RFC 7627) somebody in between can make two connections
	 * export the same. */
	if (SSL_version(conn->ssl) < TLS1_3_VERSION && SSL_get_extms_support(conn->ssl) != 1)
		return -EOPNOTSUPP;
	if (SSL_export_keying_material(conn->ssl, exported, sizeof(exported), label,
				       sizeof(label) - 1, NULL, 0, 0) != 1 ||
	    HMAC(EVP_sha256(), conn->tls->secret, sizeof(conn->tls->secret), exported,
		 sizeof(exported), mac, &len) == NULL ||
	    len != 32)
		rc = -EIO;
	EVP_EncodeBlock((unsigned char *)text, mac, 32);
	base64url(text);
	memcpy(token, text, STEALTH_TOKEN_LEN);
	token[STEALTH_TOKEN_LEN] = '\0';
	OPENSSL_cleanse(exported, sizeof(exported));
	return rc;
}

/* The request that comes before SSH; it is one for a page that does not exist to a server that is
 * not ours. */
int tls_stealth_knock(struct tls_conn *conn, const char *host, struct alk_err *err)
{
	char token[STEALTH_TOKEN_LEN + 1], request[512];
	int n;

	n = tls_stealth_token(conn, token);
	if (n < 0)
		return alk_err_set(err, n, "the key of stealth_secret cannot be made: %s",
				   n == -EOPNOTSUPP ? "the server has no extended master secret"
						    : tls_error());
	n = snprintf(request, sizeof(request),
		     strchr(host, ':') != NULL ? "GET /%s HTTP/1.1\r\nHost: [%s]\r\n\r\n"
					       : "GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n",
		     token, host);
	if (tls_conn_write(conn, request, (size_t)n) != (size_t)n)
		return alk_err_set(err, -EIO, "the connection broke");
	return 0;
}
