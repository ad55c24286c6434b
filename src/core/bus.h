/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_BUS_H
#define ALK_BUS_H

/* What stands between those that offer operations or listen (service plugins, the policy) and the
 * plugin that carries the bus: a list of each. One a worker; it outlives the plugins. */

#include <alknet/bus.h>
#include <alknet/loop.h>

struct alk_bus *alk_bus_new(struct alk_loop *loop);
/* Everybody has withdrawn and left. */
void alk_bus_free(struct alk_bus **bus);
/* Would alk_bus_offer() take it, but for a name that is there? */
int alk_bus_check(const struct alk_operation_spec *spec, struct alk_err *err);

#endif
