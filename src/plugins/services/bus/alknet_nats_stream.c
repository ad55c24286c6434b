/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The stream that keeps the durable topics: made where there is none, and its subjects set. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "alknet_nats.h"

#define STREAM_SUBJECTS_MAX 64

/* As the hub said it; `lock`, because NATS's threads make it as well. */
static struct {
	pthread_mutex_t lock;
	char name[256]; /* "": no durable topics */
	char *subjects[STREAM_SUBJECTS_MAX];
	int n;
	bool tried; /* again and again, by a thread */
} stream = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool stream_has_these(const jsStreamConfig *config)
{
	bool same = config->SubjectsLen == stream.n;

	for (int i = 0; same && i < stream.n; i++)
		same = strcmp(config->Subjects[i], stream.subjects[i]) == 0;
	return same;
}

/* All but the subjects stays as NATS's tools have set it. */
static natsStatus stream_make(void)
{
	jsStreamInfo *info = NULL;
	jsStreamConfig config;
	jsErrCode code = 0;
	natsStatus s;

	pthread_mutex_lock(&stream.lock);
	jsStreamConfig_Init(&config);
	s = js_GetStreamInfo(&info, alknet_nats.js, stream.name, NULL, &code);
	if (s == NATS_OK && !stream_has_these(info->Config)) {
		config = *info->Config;
		config.Subjects = (const char **)stream.subjects;
		config.SubjectsLen = stream.n;
		s = js_UpdateStream(NULL, alknet_nats.js, &config, NULL, NULL);
	} else if (s == NATS_NOT_FOUND || code == JSStreamNotFoundErr) {
		config.Name = stream.name;
		config.Subjects = (const char **)stream.subjects;
		config.SubjectsLen = stream.n;
		s = js_AddStream(NULL, alknet_nats.js, &config, NULL, NULL);
	}
	jsStreamInfo_Destroy(info);
	pthread_mutex_unlock(&stream.lock);
	return s;
}

static void *stream_run(void *user)
{
	(void)user;
	do {
		nats_Sleep(ALKNET_NATS_RETRY_MAX_MS);
	} while (stream_make() != NATS_OK);
	pthread_mutex_lock(&stream.lock);
	stream.tried = false;
	pthread_mutex_unlock(&stream.lock);
	nats_ReleaseThreadMemory();
	return NULL;
}

/* JetStream may be there later than NATS. */
static void stream_try_again(natsStatus why)
{
	pthread_t thread;

	alknet_nats_say_lost(0, natsStatus_GetText(why));
	pthread_mutex_lock(&stream.lock);
	if (!stream.tried && pthread_create(&thread, NULL, stream_run, NULL) == 0) {
		stream.tried = true;
		pthread_detach(thread);
	}
	pthread_mutex_unlock(&stream.lock);
}

static bool stream_is_wanted(void)
{
	bool wanted;

	pthread_mutex_lock(&stream.lock);
	wanted = stream.n > 0;
	pthread_mutex_unlock(&stream.lock);
	return wanted;
}

/* A server that has just begun takes a moment until it has its streams; what came earlier would be
 * lost to them. */
void alknet_nats_stream_wait(void)
{
	natsStatus s = NATS_ERR;

	if (!stream_is_wanted())
		return;
	for (int64_t end = nats_Now() + ALKNET_NATS_WAIT_MS; s != NATS_OK && nats_Now() < end;) {
		s = stream_make();
		if (s != NATS_OK)
			nats_Sleep(50);
	}
	if (s != NATS_OK)
		stream_try_again(s);
}

void alknet_nats_stream_set(struct wire_in *in)
{
	const char *name = wire_get_text(in);
	uint64_t n = wire_get_number(in);
	natsStatus s;

	if (n > (uint64_t)(STREAM_SUBJECTS_MAX - stream.n))
		_exit(1);
	pthread_mutex_lock(&stream.lock);
	snprintf(stream.name, sizeof(stream.name), "%s", name);
	for (uint64_t i = 0; i < n; i++)
		if ((stream.subjects[stream.n++] = strdup(wire_get_text(in))) == NULL)
			_exit(1);
	pthread_mutex_unlock(&stream.lock);
	if (natsConnection_Status(alknet_nats.connection) != NATS_CONN_STATUS_CONNECTED)
		return; /* alknet_nats_stream_wait() makes it */
	s = stream_make();
	if (s != NATS_OK)
		stream_try_again(s);
}
