/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_ACME_SPAWN_H
#define ALKNET_ACME_SPAWN_H

/* What acme.c needs to start its helper: settings from the options, and the process. */

#include <jansson.h>
#include <sys/types.h>
#include <alknet/alknet.h>

/* Check the options of ACME_OPTIONS; gives an object for the packet "start". -EINVAL with `err` naming the option. */
int acme_settings_make(const struct alk_options *options, json_t **settings, struct alk_err *err);
/* Start alknet-acme, which lies beside the plugin; gives its process and our end of the socket. */
int acme_spawn(pid_t *pid, int *fd, struct alk_err *err);

#endif
