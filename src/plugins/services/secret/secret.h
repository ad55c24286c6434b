/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SECRET_H
#define SECRET_H

/* The plugin `secret`: docs/SECRET.md. Two halves:
 *
 *   keeper.c, admin.c    in the supervisor: the store (store.c), who asked for what in the log, admin commands
 *   worker.c, channel.c  in a worker: channels, scopes, what peers send; no seed, ever
 *                        (worker.h: port0.c, port1.c, operations.c)
 *   parts.c              messages between the halves
 *   derive.h             from words to keys: bip39.c, slip10.c, bip32.c, password.c, with crypt.c,
 *                        path.c and words.c
 *   wire.c, call.c       what is asked and answered, in binary (postcard.c) and as JSON
 *   buf.c                bytes that are wiped
 *
 * Start here if you add an operation: ops.def, then wire.c, store.c and call.c. */

#include <alknet/alknet.h>
#include "store.h"

#define SECRET_KEEPER_MAGIC 0x736b6565u
#define SECRET_WORKER_MAGIC 0x73776f72u

struct secret_worker;

struct secret_keeper {
	uint32_t magic;
	struct alk_half *half;
	struct alk_loop *loop;
	struct alk_timer *expiry; /* of the cache */
	struct secret_store *store;
	struct secret_peer *peers; /* workers that say something just now */
	char *host_key;		   /* path of the server's host key, NULL = it is in a file */
	uint64_t done[SECRET_OPS], failed[SECRET_OPS];
};

/* init and deinit of each half, and what the record points to. */
int secret_keeper_new(const struct alk_plugin_env *env, void **state, struct alk_err *err);
void secret_keeper_free(void **state);
void secret_keeper_message(struct secret_keeper *keeper, uint64_t worker, const uint8_t *bytes,
			   size_t n);
void secret_keeper_down(struct secret_keeper *keeper, uint64_t worker);
/* A path for the option host_key? 0, or -EINVAL with `err`. */
int secret_keeper_check(const char *path, struct alk_err *err);
/* As alk_half_ops.configure. */
int secret_keeper_configure(struct secret_keeper *keeper, const struct alk_options *options,
			    bool apply, struct alk_err *err);
char *secret_keeper_metrics(const struct secret_keeper *keeper);
/* Run it and say in the log who wanted it; `out` gets the answer. */
void secret_keeper_run(struct secret_keeper *keeper, const struct secret_request *request,
		       struct secret_span passphrase, const char *identity, struct secret_buf *out);
void secret_admin_command(struct secret_keeper *keeper, const char *name, const char *params,
			  struct alk_call *call);

int secret_worker_new(const struct alk_plugin_env *env, void **state, struct alk_err *err);
void secret_worker_free(void **state);
void secret_worker_message(struct secret_worker *worker, const uint8_t *bytes, size_t n);
int secret_channel_open(void *state, struct alk_channel *channel, const struct alk_destination *to,
			void **user, struct alk_err *err);
size_t secret_channel_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n);
void secret_channel_drain(void *user, struct alk_channel *channel);
void secret_channel_eof(void *user, struct alk_channel *channel);
void secret_channel_close(void *user, struct alk_channel *channel);

#endif
