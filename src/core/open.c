/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <errno.h>
#include <string.h>

#include <alknet/service.h>

const char *alk_open_failure_str(enum alk_open_failure why)
{
	switch (why) {
	case ALK_OPEN_OK:
		return "ok";
	case ALK_OPEN_PROHIBITED:
		return "administratively prohibited";
	case ALK_OPEN_CONNECT_FAILED:
		return "connect failed";
	case ALK_OPEN_UNKNOWN_TYPE:
		return "unknown channel type";
	case ALK_OPEN_RESOURCE_SHORTAGE:
		return "resource shortage";
	case ALK_OPEN_REFUSED:
		return "connection refused";
	case ALK_OPEN_UNREACHABLE:
		return "unreachable";
	case ALK_OPEN_TIMEOUT:
		return "timed out";
	case ALK_OPEN_NAME:
		return "no such name";
	case ALK_OPEN_GONE:
		return "session ended";
	}
	return "unknown failure";
}

enum alk_open_failure alk_open_failure_of(int rc)
{
	switch (-rc) {
	case 0:
		return ALK_OPEN_OK;
	case ECONNREFUSED:
		return ALK_OPEN_REFUSED;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
		return ALK_OPEN_UNREACHABLE;
	case ETIMEDOUT:
		return ALK_OPEN_TIMEOUT;
	case ENOENT:
	case EREMOTEIO:
		return ALK_OPEN_NAME;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
	case EAGAIN:
	case EADDRNOTAVAIL:
		return ALK_OPEN_RESOURCE_SHORTAGE;
	case EACCES:
	case EPERM:
		return ALK_OPEN_PROHIBITED;
	case ESHUTDOWN:
		return ALK_OPEN_GONE;
	default:
		return ALK_OPEN_CONNECT_FAILED;
	}
}

bool alk_identity_has_scope(const struct alk_identity *identity, const char *scope)
{
	const char *const *at;

	if (identity == NULL || identity->scopes == NULL)
		return false;
	for (at = identity->scopes; *at != NULL; at++) {
		size_t len = strlen(*at);

		if (strcmp(*at, scope) == 0)
			return true;
		/* "secret:*" is all that begins with "secret:" */
		if (len >= 2 && strcmp(*at + len - 2, ":*") == 0 &&
		    strncmp(*at, scope, len - 1) == 0)
			return true;
	}
	return false;
}
