/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_SOCKS5_PRIVATE_H
#define ALK_SOCKS5_PRIVATE_H

/* What socks5.c (SOCKS) and socks5_http.c (HTTP CONNECT) share. */

#include "socks5.h"

/* Behind what waits already: a greeting's answer may still be there. What does not fit is cut; the
 * longest answer and a greeting's fit (the unit test has every answer). */
void alk_socks5_reply(struct alk_socks5 *socks, const void *bytes, size_t n);
/* The state is FAILED; gives `n`: all that came is consumed, nothing of it will be looked at
 * again. */
size_t alk_socks5_fail(struct alk_socks5 *socks, size_t n);
bool alk_socks5_is_letter(uint8_t c);
bool alk_socks5_is_control(uint8_t c);
/* May it be the name of a destination? Then it is. */
bool alk_socks5_name_set(struct alk_destination *to, const uint8_t *name, size_t len);
/* Port 0 means something at a reserved destination alone. */
bool alk_socks5_port_ok(const struct alk_destination *to);

/* As alk_socks5_feed and alk_socks5_answer. */
size_t alk_socks5_feed_http(struct alk_socks5 *socks, const uint8_t *bytes, size_t n);
void alk_socks5_answer_http(struct alk_socks5 *socks, enum alk_open_failure why);

#endif
