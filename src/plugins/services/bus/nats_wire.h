/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef BUS_NATS_WIRE_H
#define BUS_NATS_WIRE_H

/* What the hub and the program alknet-nats say to each other, over a stream socket: four bytes of
 * length in the order of this machine, then a message of wire.h. The program knows NATS and nothing
 * of the bus; the hub the other way round. What comes from NATS is parsed in the program: frames,
 * JSON. */

#define NATS_MESSAGE_MAX ((size_t)8 << 20)

/* How what arrives at a subscription is looked at before the hub gets it. */
#define NATS_KIND_EVENT 1 /* an envelope, whose type has to be the subject behind the prefix */
#define NATS_KIND_JSON 2  /* any JSON, or nothing */
#define NATS_KIND_FRAME 3 /* an envelope */

/* The status of a message, else "". */
#define NATS_STATUS_NOBODY "503" /* nobody serves the subject of a request */
#define NATS_STATUS_NO_JSON "400"

/* To the program, then from it. */
#define NATS_OPS(X)                                                                                \
	X(START)    /* URLs with commas, credentials file, CA file */                              \
	X(SUB)	    /* id, kind, subject, queue, prefix */                                         \
	X(UNSUB)    /* id */                                                                       \
	X(PUB)	    /* subject, reply, from, type, identity, body, origin, durable */              \
	X(STREAM)   /* name, n, n subjects */                                                      \
	X(PAST)	    /* tag, subject, since (ms since 1970) */                                      \
	X(UNPAST)   /* tag: no more of it; THEN_END follows all the same */                        \
	X(STATE)    /* connected, bytes that a message may have, text */                           \
	X(MSG)	    /* id, subject, reply, from, type, identity, status, topic, body */            \
	X(FAILED)   /* origin, text */                                                             \
	X(LOST)	    /* n, text: messages that were not handed on */                                \
	X(THEN)	    /* tag, recent, topic, frame */                                                \
	X(THEN_END) /* tag, text ("" = good) */

enum nats_op {
	NATS_NONE,
#define X(id_) NATS_##id_,
	NATS_OPS(X)
#undef X
};

/* Names as parts of a subject: what NATS does not take is %XX in it. Each adds to `out`; false: too
 * long. */
#include <stdbool.h>
#include <stddef.h>
/* A topic, or a pattern; its dots stay, its id is left out. */
bool nats_subject_add(char *out, size_t size, const char *text, bool pattern);
/* A part for each of the name's, which "/" divides. */
bool nats_subject_path(char *out, size_t size, const char *path);
/* One part, whatever is in it. */
bool nats_subject_token(char *out, size_t size, const char *text);

#endif
