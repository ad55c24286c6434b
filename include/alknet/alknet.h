/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_H
#define ALKNET_H

/* Everything, for a program or a plugin to include.
 *
 * A program that runs a server or clients in itself:
 *   embed.h      the server, the client, the loop or thread that they run on: start here. docs/EMBEDDING.md is the
 *                guide, examples/fetch.c a program
 *   service.h    a channel: the stream that a client opens or a server is asked for
 *   err.h        how errors are told
 * A plugin (docs/PLUGIN_API.md), besides the last two:
 *   plugin.h     the record that it is; options.h its options
 *   transport.h  what a transport does; service.h what a service does; half.h its half in the supervisor
 *   bus.h        operations and events of its own on the bus
 *   loop.h       descriptors, timers, tasks on the loop; dial.h connecting somewhere; log.h the
 * log */

#include <alknet/bus.h>
#include <alknet/dial.h>
#include <alknet/embed.h>
#include <alknet/err.h>
#include <alknet/half.h>
#include <alknet/local.h>
#include <alknet/log.h>
#include <alknet/loop.h>
#include <alknet/options.h>
#include <alknet/plugin.h>
#include <alknet/service.h>
#include <alknet/transport.h>

#endif
