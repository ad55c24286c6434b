/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_H
#define ALKNET_H

/* Everything: what a plugin uses, and alknet/embed.h for a program that runs a server or a client in itself. */

#include <alknet/dial.h>
#include <alknet/embed.h>
#include <alknet/err.h>
#include <alknet/half.h>
#include <alknet/log.h>
#include <alknet/loop.h>
#include <alknet/options.h>
#include <alknet/plugin.h>
#include <alknet/service.h>
#include <alknet/transport.h>

#endif
