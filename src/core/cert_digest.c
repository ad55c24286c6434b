/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "cert_digest.h"

#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include "base64.h"

int alk_sha256(const void *bytes, size_t len, uint8_t out[ALK_SHA256_LEN])
{
	return EVP_Q_digest(NULL, "SHA256", NULL, bytes, len, out, NULL) == 1 ? 0 : -EIO;
}

int alk_key_blob_fingerprint(const uint8_t *blob, size_t len, char out[ALK_KEY_FINGERPRINT_SIZE])
{
	uint8_t digest[ALK_SHA256_LEN];
	char text[45]; /* 44 and the NUL, the last one padding */

	if (alk_sha256(blob, len, digest) < 0 ||
	    alk_base64_encode(digest, sizeof(digest), text, sizeof(text)) != 44)
		return -EIO;
	memcpy(out, "SHA256:", 7);
	memcpy(out + 7, text, 43);
	out[50] = '\0';
	return 0;
}

const char *alk_cert_library(void)
{
	return OpenSSL_version(OPENSSL_VERSION_STRING);
}
