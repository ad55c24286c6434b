/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_SCHEMA_H
#define BUS_SCHEMA_H

/* JSON Schema, a subset: type, enum, const; properties, required, additionalProperties; items,
 * minItems, maxItems; minLength, maxLength (characters); minimum, maximum, exclusiveMinimum,
 * exclusiveMaximum; true and false for a whole schema. title, description, default, examples,
 * $schema, $id and $comment say nothing. Anything else is refused at registration: a word that is
 * not understood would let through what it was written to keep out. No I/O. */

#include <jansson.h>
#include <alknet/err.h>

/* 0, or -EINVAL with where and why. */
int schema_check(const json_t *schema, struct alk_err *err);
/* Does the value fit? The schema was checked. 0, or -EINVAL with where and why; no value is
 * quoted. */
int schema_fits(const json_t *schema, const json_t *value, struct alk_err *err);

#endif
