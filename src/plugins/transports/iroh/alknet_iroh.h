/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_IROH_ABI_H
#define ALKNET_IROH_ABI_H

/* All that the Rust library (crate/) exports. */

/* Run an iroh endpoint until the other end of `control`, a connected SOCK_SEQPACKET socket, is
 * closed. Takes the descriptor. Called once, in a process that has one thread and does not fork any
 * more: it makes threads. Returns the process's exit status. What is said over the socket is in
 * crate/src/packet.rs. */
int alk_iroh_run(int control);

#endif
