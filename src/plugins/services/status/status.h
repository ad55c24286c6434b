/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef STATUS_H
#define STATUS_H

/* The plugin `status`: a page about the server on the reserved destination alknet-status, through
 * the tunnel alone. docs/STATUS.md. Two halves:
 *
 *   keeper.c             in the supervisor: asks the server's own commands and makes one snapshot, in JSON
 *   worker.c, channel.c  in a worker: HTTP/1.1 on channels, who may; no figure of its own
 *   page.c               page.html as bytes
 *
 * A worker asks ("get") and is sent a snapshot, which all of its channels that wait share; one is
 * made at most each STATUS_FRESH_MS, however many ask.
 *
 * Start here if you add a figure: keeper.c, then page.html. */

#include <alknet/alknet.h>
#include <alknet/half.h>

#define STATUS_KEEPER_MAGIC 0x736b6570u
#define STATUS_WORKER_MAGIC 0x7374776bu
#define STATUS_CHANNEL_MAGIC 0x73746368u

#define STATUS_SCOPE "status:read"
#define STATUS_FRESH_MS 500  /* so old a snapshot may be */
#define STATUS_EVERY_MS 1000 /* between the events of a page */
#define STATUS_CHANNELS 64   /* at once in a worker */
#define STATUS_HEAD_MAX 4096 /* bytes of a request */
#define STATUS_HEAD_MS 10000 /* until it is there, and until the last byte of an answer was taken */
#define STATUS_ROWS 500	     /* of sessions and of topics that are shown; the totals count all */

extern const char status_page[];
extern const size_t status_page_len;

int status_keeper_new(const struct alk_plugin_env *env, void **state, struct alk_err *err);
void status_keeper_free(void **state);
void status_keeper_message(void *state, uint64_t worker);
void status_keeper_down(void *state, uint64_t worker);

int status_worker_new(const struct alk_plugin_env *env, void **state, struct alk_err *err);
void status_worker_free(void **state);
/* A snapshot came. */
void status_worker_message(void *state, const uint8_t *bytes, size_t n);

int status_channel_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
			void **user, struct alk_err *err);
size_t status_channel_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n);
void status_channel_drain(void *user, struct alk_channel *channel);
void status_channel_eof(void *user, struct alk_channel *channel);
void status_channel_close(void *user, struct alk_channel *channel);

#endif
