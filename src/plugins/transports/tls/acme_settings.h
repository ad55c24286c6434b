/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_ACME_SETTINGS_H
#define ALKNET_ACME_SETTINGS_H

/* The options of ACME as what alknet-acme is told. */

#include <jansson.h>
#include <alknet/alknet.h>

/* Check the options of ACME_OPTIONS; gives an object for the packet "start". -EINVAL with `err`
 * naming the option. */
int acme_settings_make(const struct alk_options *options, json_t **settings, struct alk_err *err);

#endif
