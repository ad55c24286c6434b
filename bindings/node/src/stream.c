/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One channel.
 *
 * In: what comes is gathered in `in` until JavaScript fetches it; when that is full the channel is
 * told to wait, and its window closes. JavaScript asks (stream_read) and is given what is there at
 * once, or an event when something comes.
 * Out: writes are a list, and what the channel takes is taken there. Of those that were copied
 * nobody hears unless they were too many; each of the others is an event once it was taken whole. */
#include "binding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IN_FIRST 2048
/* From so much on it is bulk, for which a buffer of IN_MAX is held. */
#define BULK_MIN (16 * 1024)
/* Of a bulky Buffer V8's young generation, which it looks through once a MiB of it is full, sees
 * 200 bytes, and the rest only once 32 MiB have come. Strings of so many times less, which are
 * garbage at once, tell it what came: then it looks each 2 to 3 MiB, in 0.2 ms. (How they fill its
 * pages counts: with the first alone, or as much in pieces of one size, a download's peak is 1 to 4
 * MiB higher.) To report memory outside (napi_adjust_external_memory) makes it look through
 * everything it has, in ten times that. */
#define GARBAGE_PART 4
#define GARBAGE_LESS 8
#define GARBAGE_MAX (IN_MAX / GARBAGE_PART)
/* Smaller writes are copied, and need no reference; those above COPY_FEW into a buffer of
 * IN_MAX. */
#define COPY_MAX IN_MAX
#define COPY_FEW (16 * 1024)
/* To so much the peer is likely to answer, and the answer shall come without waking anybody twice
 * (visit.c). */
#define ATTEND_MAX (4 * 1024)
/* When so much waits for the channel JavaScript waits too, until half of it is left. */
#define QUIET_MAX (1024 * 1024)
/* Small chunks of one write are joined to so much. */
#define JOIN_MAX (32 * 1024)

struct piece {
	const uint8_t *bytes;
	size_t n;
};

struct write {
	bool end;     /* the end of file, and nothing to write */
	bool quiet;   /* nobody waits for it */
	size_t total; /* of all pieces */
	napi_ref held;
	uint8_t *room;	  /* of a copy, or NULL; IN_MAX, the environment's spare one afterwards */
	size_t at, count; /* pieces */
	size_t done;	  /* of the first */
	struct write *next;
	struct piece piece[];
};

struct stream {
	atomic_uint refs;
	struct env *env;
	double id;
	pthread_mutex_t lock; /* of what follows, up to `posted` */
	uint8_t *in;
	size_t in_len, in_size;
	bool wanted;  /* JavaScript waits for bytes */
	bool stalled; /* the channel waits for room */
	bool bulky;   /* what was fetched last was much */
	struct write *queued, **queued_end;
	bool answered; /* something came since a question was asked; JavaScript's alone */
	size_t quiet;  /* bytes of quiet writes that the channel has not taken */
	bool crowded;  /* JavaScript waits until they are fewer */
	bool close_wanted;
	bool posted; /* stream_work is on its way */
	/* There. */
	struct alk_channel *channel; /* NULL before and after */
	struct client *client;	     /* whose it is, or NULL; as long as there is a channel */
	struct client *waits;	     /* in whose list it waits for a session, or NULL */
	struct write *writing, **writing_end;
	bool opened;
};

/* ---- life ---- */

struct stream *stream_new(struct env *env, double id)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
		return NULL;
	stream->refs = 1;
	stream->env = env_ref(env);
	stream->id = id;
	stream->answered = true;
	stream->queued_end = &stream->queued;
	stream->writing_end = &stream->writing;
	pthread_mutex_init(&stream->lock, NULL);
	return stream;
}

struct stream *stream_ref(struct stream *stream)
{
	atomic_fetch_add(&stream->refs, 1);
	return stream;
}

void write_free(napi_env napi, struct write **write)
{
	if (*write != NULL && (*write)->held != NULL && napi != NULL)
		napi_delete_reference(napi, (*write)->held);
	if (*write != NULL)
		free((*write)->room);
	free(*write);
	*write = NULL;
}

void stream_unref(struct stream **streamp)
{
	struct stream *stream = *streamp;

	*streamp = NULL;
	if (stream == NULL || atomic_fetch_sub(&stream->refs, 1) != 1)
		return;
	pthread_mutex_destroy(&stream->lock);
	env_unref(&stream->env);
	free(stream->in);
	free(stream);
}

double stream_id(const struct stream *stream)
{
	return stream->id;
}

/* ---- there ---- */

static void tell(struct stream *stream, enum kind kind, double number, const char *text)
{
	env_tell(stream->env, event_text(kind, stream->id, number, text));
}

static void tell_data(struct stream *stream)
{
	struct event *event = event_new(EV_DATA, stream->id);

	if (event == NULL)
		return;
	event->stream = stream_ref(stream);
	env_tell(stream->env, event);
}

/* What holds no Buffer is done with. */
static void quiet_written(struct stream *stream, struct write *write)
{
	bool room;

	pthread_mutex_lock(&stream->lock);
	stream->quiet -= write->total;
	room = stream->crowded && stream->quiet <= QUIET_MAX / 2;
	if (room)
		stream->crowded = false;
	pthread_mutex_unlock(&stream->lock);
	if (write->room != NULL)
		env_spare_give(stream->env, write->room);
	free(write);
	if (room)
		tell(stream, EV_WROTE, 0, NULL);
}

static void tell_written(struct stream *stream, struct write *write, int rc)
{
	struct event *event;

	if (write->quiet) {
		quiet_written(stream, write);
		return;
	}
	event = event_new(write->end ? EV_ENDED : EV_WROTE, stream->id);
	if (event == NULL)
		return; /* and its memory goes with the environment */
	event->number = rc;
	event->write = write;
	env_tell(stream->env, event);
}

/* Of IN_MAX. NULL when out of memory. */
static uint8_t *buffer_new(struct env *env)
{
	uint8_t *spare = env_spare_take(env);

	return spare != NULL ? spare : malloc(IN_MAX);
}

static bool in_grow(struct stream *stream, size_t n)
{
	size_t size = stream->in_size > 0 ? stream->in_size : IN_FIRST;
	uint8_t *more;

	while (size < n)
		size *= 2;
	/* All at once where there will be more of it, and every large one has the same size. */
	if (size > BULK_MIN || stream->bulky)
		size = IN_MAX;
	if (size == stream->in_size)
		return true;
	more = size == IN_MAX ? buffer_new(stream->env) : malloc(size);
	if (more == NULL)
		return false;
	if (stream->in_len > 0)
		memcpy(more, stream->in, stream->in_len);
	free(stream->in);
	stream->in = more;
	stream->in_size = size;
	return true;
}

static size_t on_data(void *user, struct alk_channel *channel, const uint8_t *bytes, size_t n)
{
	struct stream *stream = user;
	size_t taken;
	bool say;

	(void)channel;
	pthread_mutex_lock(&stream->lock);
	taken = IN_MAX - stream->in_len < n ? IN_MAX - stream->in_len : n;
	if (taken > 0 && !in_grow(stream, stream->in_len + taken))
		taken = 0;
	if (taken > 0) {
		memcpy(stream->in + stream->in_len, bytes, taken);
		stream->in_len += taken;
	}
	stream->stalled = taken < n;
	say = stream->wanted && stream->in_len > 0;
	if (say)
		stream->wanted = false;
	pthread_mutex_unlock(&stream->lock);
	if (stream->client != NULL)
		client_moved(stream->client, taken);
	if (say)
		tell_data(stream);
	return taken;
}

/* Small pieces that follow each other become one. */
static size_t write_join(const struct write *write, uint8_t *room, size_t size)
{
	size_t n = 0;

	for (size_t i = write->at; i < write->count && n < size; i++) {
		const struct piece *piece = &write->piece[i];
		size_t from = i == write->at ? write->done : 0, len = piece->n - from;

		if (len > size - n)
			len = size - n;
		memcpy(room + n, piece->bytes + from, len);
		n += len;
	}
	return n;
}

static void write_advance(struct write *write, size_t n)
{
	while (write->at < write->count) {
		size_t left = write->piece[write->at].n - write->done;

		if (n < left) {
			write->done += n;
			return;
		}
		n -= left;
		write->at++;
		write->done = 0;
	}
}

/* One call of the channel. 1 = it took what there was, 0 = no room, -errno. */
static int write_step(struct stream *stream, struct write *write)
{
	const struct piece *piece = &write->piece[write->at];
	const uint8_t *bytes = piece->bytes + write->done;
	uint8_t joined[JOIN_MAX];
	size_t n = piece->n - write->done;
	ssize_t taken;

	if (n < sizeof(joined) && write->at + 1 < write->count) {
		n = write_join(write, joined, sizeof(joined));
		bytes = joined;
	}
	taken = n > 0 ? alk_channel_write(stream->channel, bytes, n) : 0;
	if (taken < 0)
		return (int)taken;
	write_advance(write, (size_t)taken);
	return (size_t)taken == n;
}

static struct write *writing_take(struct stream *stream)
{
	struct write *write = stream->writing;

	stream->writing = write->next;
	if (stream->writing == NULL)
		stream->writing_end = &stream->writing;
	write->next = NULL;
	return write;
}

static void stream_flush(struct stream *stream)
{
	while (stream->writing != NULL && stream->channel != NULL && stream->opened) {
		struct write *write = stream->writing;
		int rc = 1;

		if (write->end)
			alk_channel_eof(stream->channel);
		while (rc > 0 && write->at < write->count)
			rc = write_step(stream, write);
		if (rc == 0)
			return;
		tell_written(stream, writing_take(stream), rc < 0 ? rc : 0);
	}
}

static void on_drain(void *user, struct alk_channel *channel)
{
	(void)channel;
	stream_flush(user);
}

static void on_eof(void *user, struct alk_channel *channel)
{
	(void)channel;
	tell(user, EV_EOF, 0, NULL);
}

static void writing_fail(struct stream *stream)
{
	while (stream->writing != NULL)
		tell_written(stream, writing_take(stream), -EPIPE);
}

static void on_close(void *user, struct alk_channel *channel)
{
	struct stream *stream = user;

	(void)channel;
	stream->channel = NULL;
	stream->client = NULL;
	writing_fail(stream);
	tell(stream, EV_GONE, 0, NULL);
	stream_unref(&stream);
}

static void on_opened(void *user, struct alk_channel *channel)
{
	struct stream *stream = user;

	(void)channel;
	stream->opened = true;
	tell(stream, EV_OPENED, 0, NULL);
	stream_flush(stream);
}

static void on_refused(void *user, struct alk_channel *channel, enum alk_open_failure why,
		       const char *text)
{
	struct stream *stream = user;

	(void)channel;
	tell(stream, EV_REFUSED, why,
	     text != NULL && text[0] != '\0' ? text : alk_open_failure_str(why));
}

static const struct alk_channel_ops stream_ops = {
	.opened = on_opened,
	.refused = on_refused,
	.data = on_data,
	.drain = on_drain,
	.eof = on_eof,
	.close = on_close,
};

bool stream_open(struct stream *stream, struct client *client, const char *host, uint16_t port,
		 struct alk_err *err)
{
	bool closed;

	pthread_mutex_lock(&stream->lock);
	closed = stream->close_wanted;
	pthread_mutex_unlock(&stream->lock);
	if (closed) {
		alk_err_set(err, -ECANCELED, "the stream was closed");
		return false;
	}
	stream->channel = alk_embed_client_open(client_embed(client), host, port, &stream_ops,
						stream, err);
	if (stream->channel == NULL)
		return false;
	stream->client = client;
	stream_ref(stream);
	return true;
}

void stream_waits(struct stream *stream, struct client *client)
{
	stream->waits = client;
}

struct stream *stream_take_channel(struct env *env, struct alk_channel *channel)
{
	struct stream *stream = stream_new(env, env_number(env));

	if (stream == NULL)
		return NULL;
	stream->channel = channel;
	stream->opened = true;
	alk_channel_set_ops(channel, &stream_ops, stream_ref(stream));
	alk_channel_accept(channel); /* if it cannot be, `close` follows */
	return stream;
}

/* So much was asked to be written. */
static void stream_expect(struct stream *stream, size_t asked)
{
	bool short_one = asked <= ATTEND_MAX;
	struct alk_embed *embed;

	if (stream->client != NULL && !short_one) {
		client_moved(stream->client, asked);
	} else if (short_one && (stream->client == NULL || !client_lend(stream->client))) {
		embed = home_embed(); /* NULL: it ends, once this has run */
		if (embed != NULL)
			alk_embed_attend(embed);
	}
}

static void stream_work(void *user)
{
	struct stream *stream = user;
	bool resume, close;
	size_t asked = 0;

	pthread_mutex_lock(&stream->lock);
	stream->posted = false;
	resume = stream->stalled && stream->in_len < IN_MAX;
	if (resume)
		stream->stalled = false;
	close = stream->close_wanted;
	for (const struct write *write = stream->queued; write != NULL; write = write->next)
		asked += write->total;
	if (stream->queued != NULL) {
		*stream->writing_end = stream->queued;
		stream->writing_end = stream->queued_end;
		stream->queued = NULL;
		stream->queued_end = &stream->queued;
	}
	pthread_mutex_unlock(&stream->lock);
	if (stream->channel == NULL) {
		writing_fail(stream);
		if (close && stream->waits != NULL)
			client_forget(stream->waits, stream);
	} else {
		stream_flush(stream);
		if (asked > 0)
			stream_expect(stream, asked);
		if (resume)
			alk_channel_resume(stream->channel);
		if (close)
			alk_channel_close(stream->channel);
	}
	stream_unref(&stream);
}

/* ---- here ---- */

/* With the lock. */
static bool stream_post(struct stream *stream)
{
	if (stream->posted)
		return true;
	stream->posted = true;
	if (home_post(stream_work, stream_ref(stream)) == 0)
		return true;
	stream->posted = false;
	atomic_fetch_sub(&stream->refs, 1); /* the caller has another one */
	return false;
}

/* A copy: V8 frees its own memory as soon as its young generation is looked through, on a thread
 * beside; memory of ours would wait for that of the old one and for a turn of the event loop, while
 * new pages are touched. */
static napi_value bytes_value(napi_env napi, const uint8_t *bytes, size_t n)
{
	static const char nothing[GARBAGE_MAX];
	napi_value value = NULL, garbage;
	napi_handle_scope scope;

	if (napi_create_buffer_copy(napi, n, bytes, NULL, &value) != napi_ok)
		return NULL;
	if (n > BULK_MIN && napi_open_handle_scope(napi, &scope) == napi_ok) {
		napi_create_string_latin1(napi, nothing, n / GARBAGE_PART, &garbage);
		napi_create_string_latin1(napi, nothing, n / GARBAGE_LESS, &garbage);
		napi_close_handle_scope(napi, scope);
	}
	return value;
}

napi_value stream_take(napi_env napi, struct stream *stream)
{
	uint8_t few[BULK_MIN], *bytes = NULL;
	napi_value value;
	size_t n, size;

	pthread_mutex_lock(&stream->lock);
	n = stream->in_len;
	size = stream->in_size;
	if (n > 0) {
		stream->bulky = n > BULK_MIN;
		stream->answered = true;
	}
	if (n > 0 && n <= BULK_MIN)
		memcpy(few, stream->in, n);
	/* A stream that is quiet holds little. */
	if (size > IN_FIRST) {
		bytes = stream->in;
		stream->in = NULL;
		stream->in_size = 0;
	}
	stream->in_len = 0;
	if (n > 0 && stream->stalled)
		stream_post(stream);
	pthread_mutex_unlock(&stream->lock);
	value = n > 0 ? bytes_value(napi, n > BULK_MIN ? bytes : few, n) : NULL;
	if (size == IN_MAX)
		env_spare_give(stream->env, bytes);
	else
		free(bytes);
	return value;
}

napi_value stream_read(napi_env napi, struct stream *stream)
{
	napi_value value = stream_take(napi, stream);

	if (value != NULL)
		return value;
	pthread_mutex_lock(&stream->lock);
	if (stream->in_len > 0) {
		/* It came just now. */
		pthread_mutex_unlock(&stream->lock);
		return stream_take(napi, stream);
	}
	stream->wanted = true;
	pthread_mutex_unlock(&stream->lock);
	return NULL;
}

/* 0 = the loop is gone, 1 = it will be told, 2 = nobody needs to wait. */
static int stream_queue(struct stream *stream, struct write *write, bool strict)
{
	/* The first words after an answer are a question, for which nobody needs to be woken. */
	struct visit *visit = env_visitor(stream->env);
	bool asks = visit != NULL && stream->answered && write->total > 0 &&
		    write->total <= ATTEND_MAX;
	struct alk_embed *embed = asks ? home_visit(false) : NULL;
	struct write **before;
	bool good;

	if (asks)
		stream->answered = false;
	pthread_mutex_lock(&stream->lock);
	before = stream->queued_end;
	*before = write;
	stream->queued_end = &write->next;
	write->quiet = !strict && write->held == NULL && !write->end;
	good = embed != NULL || stream_post(stream);
	if (!good) {
		*before = NULL;
		stream->queued_end = before;
	} else if (write->quiet) {
		stream->quiet += write->total;
		stream->crowded = stream->quiet > QUIET_MAX;
	}
	/* From here on it is the loop's. */
	strict = !write->quiet || stream->crowded;
	pthread_mutex_unlock(&stream->lock);
	if (embed != NULL) {
		stream_work(stream_ref(stream));
		home_unvisit(embed);
		visit_asked(visit);
	}
	return !good ? 0 : strict ? 1 : 2;
}

static struct write *write_new(size_t count, size_t extra)
{
	struct write *write = malloc(sizeof(*write) + count * sizeof(struct piece) + extra);

	if (write != NULL)
		*write = (struct write){.count = count};
	return write;
}

/* A copy of all in one. */
static struct write *write_copy(struct stream *stream, const struct piece *piece, size_t count,
				size_t total)
{
	struct write *write = write_new(1, total <= COPY_FEW ? total : 0);
	uint8_t *room;

	if (write == NULL)
		return NULL;
	if (total > COPY_FEW)
		room = write->room = buffer_new(stream->env);
	else
		room = (uint8_t *)&write->piece[1];
	if (room == NULL) {
		free(write);
		return NULL;
	}
	write->total = total;
	write->piece[0] = (struct piece){room, total};
	for (size_t i = 0; i < count; i++) {
		memcpy(room, piece[i].bytes, piece[i].n);
		room += piece[i].n;
	}
	return write;
}

static struct write *write_of(napi_env napi, struct stream *stream, napi_value chunks,
			      const struct piece *piece, size_t count, bool strict)
{
	struct write *write;
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += piece[i].n;
	/* Who waits until it is taken has the Buffer still. */
	if (total <= (strict ? COPY_FEW : COPY_MAX))
		return write_copy(stream, piece, count, total);
	write = write_new(count, 0);
	if (write == NULL)
		return NULL;
	write->total = total;
	memcpy(write->piece, piece, count * sizeof(*piece));
	if (napi_create_reference(napi, chunks, 1, &write->held) != napi_ok) {
		write->held = NULL;
		write_free(napi, &write);
	}
	return write;
}

static bool piece_get(napi_env napi, napi_value value, struct piece *piece)
{
	void *bytes = NULL;
	bool is = false;

	if (napi_is_buffer(napi, value, &is) != napi_ok || !is ||
	    napi_get_buffer_info(napi, value, &bytes, &piece->n) != napi_ok)
		return false;
	piece->bytes = bytes != NULL ? bytes : (const uint8_t *)"";
	return true;
}

int stream_write(napi_env napi, struct stream *stream, napi_value chunks, bool strict)
{
	struct piece one, *pieces = &one;
	struct write *write = NULL;
	uint32_t count = 1;
	bool list = false, good;
	int rc;

	napi_is_array(napi, chunks, &list);
	if (list) {
		napi_get_array_length(napi, chunks, &count);
		pieces = calloc(count > 0 ? count : 1, sizeof(*pieces));
	}
	good = pieces != NULL;
	for (uint32_t i = 0; good && i < count; i++) {
		napi_value value = chunks;

		good = (!list || napi_get_element(napi, chunks, i, &value) == napi_ok) &&
		       piece_get(napi, value, &pieces[i]);
	}
	if (good)
		write = write_of(napi, stream, chunks, pieces, count, strict);
	if (list)
		free(pieces);
	if (write == NULL) {
		napi_throw_type_error(napi, NULL, good ? "out of memory" : "not a Buffer");
		return 0;
	}
	rc = stream_queue(stream, write, strict);
	if (rc == 0)
		write_free(napi, &write);
	return rc;
}

bool stream_end(struct stream *stream)
{
	struct write *write = write_new(0, 0);

	if (write == NULL)
		return false;
	write->end = true;
	if (stream_queue(stream, write, true) > 0)
		return true;
	free(write);
	return false;
}

bool stream_close(struct stream *stream)
{
	bool good;

	pthread_mutex_lock(&stream->lock);
	stream->close_wanted = true;
	good = stream_post(stream);
	pthread_mutex_unlock(&stream->lock);
	return good;
}
