/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Histories: what durable topics had, read out of their stream. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>
#include "alknet_nats.h"

#define PAST_GROWS_MS 2000

/* Of its own thread: history may be long, and nothing else waits for it. */
struct past {
	LIST_ENTRY(past) entry;
	uint64_t tag;
	int64_t since;
	char *subject;
	atomic_bool stopped;
};
static LIST_HEAD(, past) pasts = LIST_HEAD_INITIALIZER(pasts);
static pthread_mutex_t pasts_lock = PTHREAD_MUTEX_INITIALIZER;

static bool past_one(uint64_t tag, natsMsg *msg, int64_t asked, uint64_t *pending)
{
	jsMsgMetaData *meta = NULL;
	struct wire_out out;
	bool good = natsMsg_GetMetaData(&meta, msg) == NATS_OK;

	*pending = good ? meta->NumPending : 0;
	alknet_nats_begin(&out, NATS_THEN);
	wire_number(&out, tag);
	wire_number(&out, good && meta->Timestamp / 1000000 >= asked - 2000);
	if (alknet_nats_put_frame(&out, natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg),
				  NULL, "") == NULL)
		alknet_nats_say(&out);
	else
		wire_free(&out);
	jsMsgMetaData_Destroy(meta);
	return good;
}

/* How many are left. What is there after a moment is all, or whoever publishes faster than this is
 * read would make it endless; what is newer comes as events do. */
static uint64_t past_left(int64_t asked, uint64_t left, uint64_t pending)
{
	return nats_Now() - asked < PAST_GROWS_MS || pending < left ? pending : left - 1;
}

static natsStatus past_read(const struct past *past)
{
	natsSubscription *sub = NULL;
	int64_t asked = nats_Now();
	jsConsumerInfo *info = NULL;
	uint64_t pending, left = UINT64_MAX;
	jsSubOptions options;
	natsMsg *msg = NULL;
	jsPubOptions before;
	natsStatus s;

	/* What was published before is in the stream once that is acknowledged. */
	jsPubOptions_Init(&before);
	before.MaxWait = PAST_GROWS_MS;
	js_PublishAsyncComplete(alknet_nats.js, &before);
	jsSubOptions_Init(&options);
	options.Ordered = true;
	options.Config.DeliverPolicy = past->since > 0 ? js_DeliverByStartTime : js_DeliverAll;
	options.Config.OptStartTime = past->since * 1000000;
	s = js_SubscribeSync(&sub, alknet_nats.js, past->subject, NULL, &options, NULL);
	if (s == NATS_OK)
		s = natsSubscription_GetConsumerInfo(&info, sub, NULL, NULL);
	if (s == NATS_OK && info->NumPending == 0 && info->Delivered.Consumer == 0)
		left = 0;
	jsConsumerInfo_Destroy(info);
	while (s == NATS_OK && left > 0 && !past->stopped) {
		s = natsSubscription_NextMsg(&msg, sub, ALKNET_NATS_WAIT_MS);
		if (s != NATS_OK)
			break;
		if (!past_one(past->tag, msg, asked, &pending))
			s = NATS_ERR;
		natsMsg_Destroy(msg);
		left = past_left(asked, left, pending);
	}
	natsSubscription_Unsubscribe(sub);
	natsSubscription_Destroy(sub);
	return s;
}

/* `why` "": it has been read. */
static void past_end(struct past *past, const char *why)
{
	struct wire_out out;

	pthread_mutex_lock(&pasts_lock);
	LIST_REMOVE(past, entry);
	pthread_mutex_unlock(&pasts_lock);
	alknet_nats_begin(&out, NATS_THEN_END);
	wire_number(&out, past->tag);
	wire_text(&out, why);
	alknet_nats_say(&out);
	free(past->subject);
	free(past);
}

static void *past_run(void *user)
{
	struct past *past = user;
	natsStatus s = past_read(past);

	past_end(past, s == NATS_OK ? "" : natsStatus_GetText(s));
	nats_ReleaseThreadMemory();
	return NULL;
}

void alknet_nats_past_start(struct wire_in *in)
{
	struct past *past = calloc(1, sizeof(*past));
	uint64_t since;
	pthread_t thread;
	int rc;

	if (past == NULL)
		_exit(1);
	past->tag = wire_get_number(in);
	past->subject = strdup(wire_get_text(in));
	since = wire_get_number(in);
	if (past->subject == NULL)
		_exit(1);
	past->since = since < INT64_MAX / 1000000 ? (int64_t)since : INT64_MAX / 1000000;
	pthread_mutex_lock(&pasts_lock);
	LIST_INSERT_HEAD(&pasts, past, entry);
	pthread_mutex_unlock(&pasts_lock);
	rc = pthread_create(&thread, NULL, past_run, past);
	if (rc == 0)
		pthread_detach(thread);
	else
		past_end(past, strerror(rc));
}

/* Nobody wants more of it. */
void alknet_nats_past_stop(struct wire_in *in)
{
	uint64_t tag = wire_get_number(in);
	struct past *past;

	pthread_mutex_lock(&pasts_lock);
	LIST_FOREACH(past, &pasts, entry)
	{
		if (past->tag == tag)
			past->stopped = true;
	}
	pthread_mutex_unlock(&pasts_lock);
}
