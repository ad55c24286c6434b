/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALKNET_IROH_ID_H
#define ALKNET_IROH_ID_H

/* An endpoint's id is an Ed25519 public key of 32 bytes. People see it in z-base-32, 52 characters;
 * hex, 64 characters, is what the helper speaks and what other programs of iroh print. Both are
 * taken. */

#include <stdint.h>

#define IROH_ID_BYTES 32
#define IROH_ID_Z32 (52 + 1)
#define IROH_ID_HEX (64 + 1)

/* 0; -EINVAL: it is neither form. */
int iroh_id_parse(const char *text, uint8_t id[IROH_ID_BYTES]);
void iroh_id_z32(const uint8_t id[IROH_ID_BYTES], char text[IROH_ID_Z32]);
void iroh_id_hex(const uint8_t id[IROH_ID_BYTES], char text[IROH_ID_HEX]);
/* 64 characters of hex, in either case. -EINVAL. */
int iroh_id_unhex(const char *text, uint8_t bytes[IROH_ID_BYTES]);

#endif
