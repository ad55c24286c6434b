/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_ADMIN_RPC_H
#define ALK_ADMIN_RPC_H

/* One line of the admin socket: a JSON-RPC 2.0 request, checked against the command table,
 * strictly: unknown members, parameters that are missing, extra or of another type are errors with
 * a sentence. No I/O. Fuzzed (tests/fuzz/fuzz_admin.c). */

#include "admin.h"

#define ALK_ADMIN_PARSE_ERROR (-32700)
#define ALK_ADMIN_INVALID_REQUEST (-32600)
#define ALK_ADMIN_UNKNOWN_METHOD (-32601)

struct alk_admin_request {
	json_t *id; /* NULL: none was sent, so it gets no answer; JSON null where it could not be read */
	const struct alk_admin_command *command;
	json_t *params; /* an object */
	int code;	/* 0 = good; else `command` and `params` are NULL */
	char message[512];
};

/* Fills `request` always; clear it afterwards. */
void alk_admin_request_parse(const char *line, size_t len, const struct alk_admin_command *commands,
			     struct alk_admin_request *request);
void alk_admin_request_clear(struct alk_admin_request *request);

#endif
