/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "load.h"

/* A shared object like any other. */
ALK_EXPORT extern const struct alk_service_ops *const nosymbol_ops;
ALK_EXPORT const struct alk_service_ops *const nosymbol_ops = &load_service;
