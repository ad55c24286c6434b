/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_DIRECT_H
#define ALK_DIRECT_H

/* SSH's side of what a transport offers for an fd (alk_direct_offer in alknet/transport.h).
 *
 *   offered --take--> taken --end------> gone
 *      |                 '---withdraw---> withdrawn --end--> gone
 *      '---withdraw, or a take that fails---> gone */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <alknet/loop.h>
#include <alknet/transport.h>

/* From now on `on_ready` is told when it is worth a try to read or write. NULL: nobody offers
 * anything for this fd, or not any more. */
struct alk_direct *alk_direct_take(int fd, alk_io_fn *on_ready, void *user);
/* Is there still to be read what went into the fd before? It comes by itself, in parts. */
bool alk_direct_drains(const struct alk_direct *direct);
/* As recv() and send(): -1 with errno, 0 for the end. None of the bytes was taken: 0, not EAGAIN. */
ssize_t alk_direct_recv(struct alk_direct *direct, void *bytes, size_t n);
ssize_t alk_direct_send(struct alk_direct *direct, const void *bytes, size_t n);
uint64_t alk_direct_unsent(const struct alk_direct *direct);
/* Takes what was taken, sets it to NULL, and tells the transport. NULL is fine. */
void alk_direct_end(struct alk_direct **direct);

#endif
