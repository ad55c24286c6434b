/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_H
#define ALKNET_H

/* Everything that a plugin may use. */

#include <alknet/dial.h>
#include <alknet/err.h>
#include <alknet/half.h>
#include <alknet/log.h>
#include <alknet/loop.h>
#include <alknet/options.h>
#include <alknet/plugin.h>
#include <alknet/service.h>
#include <alknet/transport.h>

#endif
