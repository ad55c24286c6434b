/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_HTTP_HEAD_H
#define ALK_HTTP_HEAD_H

/* The head of an HTTP/1.x request without a body (RFC 9112), as far as something that answers GET
 * must know it. It has no state: the bytes so far go in again each time more came. What is not
 * exactly a head is an error; a request that has a body is one too, because nobody would read
 * it. */

#include <stdbool.h>
#include <stddef.h>
#include <alknet/err.h>

#define ALK_HTTP_HEAD_MAX 4096 /* bytes; longer is an error */

struct alk_http_head {
	char method[16]; /* "GET"; as it stands */
	char path[256];	 /* without the query; "" when it is longer or no path: nobody has that */
	bool http11;	 /* 1.1 and later 1.x */
	bool host;	 /* there was a Host field */
};

/* Returns: bytes of the head, its empty line included; 0 it is not there yet; -EINVAL it is none;
 * -EFBIG it is longer than ALK_HTTP_HEAD_MAX. `head` is filled when the result is positive. */
int alk_http_head_parse(const char *bytes, size_t len, struct alk_http_head *head);

#endif
