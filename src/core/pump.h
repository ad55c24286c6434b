/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_PUMP_H
#define ALK_PUMP_H

/* The pump joins a channel and an fd, both ways: the only copy loop of the program.
 *
 *   channel → fd   data() writes straight to the fd; what does not fit stays with the channel, which
 *                  stops its peer by the window; EV_WRITE resumes it. Channel eof: shutdown(SHUT_WR).
 *   fd → channel   reads no more than alk_channel_room(), so nothing is ever kept here; a full channel
 *                  pauses the fd until drain. fd eof: alk_channel_eof().
 *
 * It ends when both directions have, when the fd breaks (the channel is closed) or when the channel
 * is closed (the fd is reset if data was lost). It owns its fd and itself; `done` tells the owner:
 * rc 0 when both directions came to their end, -ECONNRESET when the channel was cut before, else
 * the -errno of the fd that broke. */

#include "channel.h"

typedef void alk_pump_done(void *user, int rc);

/* Takes *fd, on failure too, and the channel's operations. `done` (may be NULL) runs once, from the
 * channel's close. `first`/`first_len`: bytes that were read from the fd already and go into the
 * channel first (borrowed for the call). 0 or -errno. Plain files and pipes work too (`fd_out` -1 =
 * the same fd). */
int alk_pump_start(struct alk_channel *channel, int *fd, int *fd_out, const void *first,
		   size_t first_len, alk_pump_done *done, void *user);
/* The same of a socket that is watched already. Takes *io too, on failure as well. */
int alk_pump_start_watched(struct alk_channel *channel, int *fd, struct alk_io **io,
			   const void *first, size_t first_len);

#endif
