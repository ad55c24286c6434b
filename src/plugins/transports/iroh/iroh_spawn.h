/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_IROH_SPAWN_H
#define ALKNET_IROH_SPAWN_H

/* The process alknet-iroh, which lies beside the plugin: the one that has iroh in it. */

#include <sys/types.h>
#include <alknet/err.h>

#define IROH_FD 3 /* its end of the socket */

/* Start it; gives its process and our end of the socket, non-blocking. */
int iroh_spawn(pid_t *pid, int *fd, struct alk_err *err);
/* Close the socket, which ends it; what does not end in 3 s is killed. Clears both. Its way out meanwhile may be `shim`,
 * which is NULL where there is none. */
struct iroh_shim;
void iroh_spawn_end(pid_t *pid, int *fd, struct iroh_shim *shim);

#endif
