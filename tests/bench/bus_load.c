/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A load for an event bus, the same for two protocols: MQTT 3.1.1 with QoS 0, and the frames of
 * docs/BUS.md.
 *
 *   bus_load mqtt|frames unix:PATH|HOST:PORT events COUNT SIZE SUBSCRIBERS    events a second, all subscribers together
 *   bus_load mqtt|frames ADDRESS rpc COUNT                                    p50 and p99 of request and reply, in us
 *   bus_load mqtt|frames ADDRESS hold PATTERNS                                subscribes and waits for the end of its input
 *
 * At most WINDOW events are under way, so that nobody's queue overflows and nothing is dropped. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define WINDOW 2000
#define BLOCK 16384
#define SUBSCRIBERS_MAX 1000

static bool mqtt;
static const char *address;

struct peer {
	int fd;
	uint8_t in[1 << 17];
	size_t at, n;
	atomic_long got;
};

static void die(const char *what)
{
	fprintf(stderr, "bus_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put(int fd, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	while (n > 0) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent <= 0)
			die("send");
		at += sent;
		n -= (size_t)sent;
	}
}

static int dial(void)
{
	int fd, one = 1;

	if (strncmp(address, "unix:", 5) == 0) {
		struct sockaddr_un to = {.sun_family = AF_UNIX};

		snprintf(to.sun_path, sizeof(to.sun_path), "%s", address + 5);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
			die("connect");
	} else {
		struct sockaddr_in to = {.sin_family = AF_INET};
		const char *colon = strrchr(address, ':');

		to.sin_port = htons((uint16_t)atoi(colon + 1));
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
			die("connect");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	return fd;
}

/* Bytes of the message at `at`, 0 = not whole. */
static size_t whole(const uint8_t *at, size_t n)
{
	size_t size = 0, i = 1;

	if (!mqtt) {
		size = n >= 4 ? 4 + ((size_t)at[0] << 24 | (size_t)at[1] << 16 |
				     (size_t)at[2] << 8 | at[3])
			      : 0;
		return size <= n ? size : 0;
	}
	for (unsigned shift = 0; i < n && i < 5; shift += 7) {
		size |= (size_t)(at[i] & 0x7f) << shift;
		if ((at[i++] & 0x80) == 0)
			return i + size <= n ? i + size : 0;
	}
	return 0;
}

static bool fill(struct peer *p)
{
	ssize_t n;

	if (p->at > 0) {
		memmove(p->in, p->in + p->at, p->n - p->at);
		p->n -= p->at;
		p->at = 0;
	}
	n = recv(p->fd, p->in + p->n, sizeof(p->in) - p->n, 0);
	if (n <= 0)
		return false;
	p->n += (size_t)n;
	return true;
}

static const uint8_t *next(struct peer *p, size_t *size)
{
	const uint8_t *at;

	while ((*size = whole(p->in + p->at, p->n - p->at)) == 0)
		if (!fill(p))
			die("the connection closed");
	at = p->in + p->at;
	p->at += *size;
	return at;
}

/* Both make a message in `out` and give its size. */
static size_t frame(uint8_t *out, const char *text)
{
	size_t n = strlen(text);

	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(n >> (24 - 8 * i));
	memcpy(out + 4, text, n);
	return n + 4;
}

static size_t packet(uint8_t *out, uint8_t type, const void *body, size_t n)
{
	size_t at = 0, left = n;

	out[at++] = type;
	do {
		out[at++] = (uint8_t)(left % 128 | (left >= 128 ? 128 : 0));
		left /= 128;
	} while (left > 0);
	memcpy(out + at, body, n);
	return at + n;
}

static size_t event(uint8_t *out, const char *topic, size_t size)
{
	char body[70000];
	size_t n;

	if (!mqtt) {
		n = (size_t)snprintf(body, sizeof(body),
				     "{\"type\":\"%s\",\"id\":\"\",\"payload\":\"", topic);
		memset(body + n, 'x', size);
		strcpy(body + n + size, "\"}");
		return frame(out, body);
	}
	n = strlen(topic);
	body[0] = 0;
	body[1] = (char)n;
	memcpy(body + 2, topic, n);
	memset(body + 2 + n, 'x', size);
	return packet(out, 0x30, body, 2 + n + size);
}

static struct peer *join(void)
{
	static const uint8_t hello[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0};
	struct peer *p = calloc(1, sizeof(*p));
	uint8_t out[64];
	size_t n;

	p->fd = dial();
	if (mqtt) {
		put(p->fd, out, packet(out, 0x10, hello, sizeof(hello)));
		next(p, &n);
	}
	return p;
}

static void subscribe(struct peer *p, const char *topic)
{
	uint8_t out[512], body[300];
	char text[400];
	size_t n = strlen(topic);

	if (mqtt) {
		body[0] = 0, body[1] = 1, body[2] = 0, body[3] = (uint8_t)n;
		memcpy(body + 4, topic, n);
		body[4 + n] = 0;
		put(p->fd, out, packet(out, 0x82, body, 5 + n));
	} else {
		snprintf(text, sizeof(text),
			 "{\"type\":\"__subscribe\",\"id\":\"%s\",\"payload\":{\"topic\":\"%s\"}}",
			 topic, topic);
		put(p->fd, out, frame(out, text));
	}
	next(p, &n);
}

/* events */

static struct peer *subs[SUBSCRIBERS_MAX];
static int n_subs;
static long count;

static void *reader(void *arg)
{
	static struct pollfd fds[SUBSCRIBERS_MAX];
	int left = n_subs;

	(void)arg;
	for (int i = 0; i < n_subs; i++)
		fds[i] = (struct pollfd){.fd = subs[i]->fd, .events = POLLIN};
	while (left > 0) {
		if (poll(fds, (nfds_t)n_subs, 20000) <= 0)
			die("no event for 20 s");
		for (int i = 0; i < n_subs; i++) {
			struct peer *p = subs[i];
			long got = 0;
			size_t size;

			if ((fds[i].revents & (POLLIN | POLLHUP)) == 0)
				continue;
			if (!fill(p))
				die("a subscriber was closed");
			while ((size = whole(p->in + p->at, p->n - p->at)) != 0) {
				if (!mqtt && memmem(p->in + p->at, size, "__dropped", 9) != NULL)
					die("events were dropped");
				p->at += size;
				got++;
			}
			if (atomic_fetch_add(&p->got, got) + got >= count) {
				fds[i].fd = -1;
				left--;
			}
		}
	}
	return NULL;
}

static long slowest(void)
{
	long least = count;

	for (int i = 0; i < n_subs; i++) {
		long got = atomic_load(&subs[i]->got);

		least = got < least ? got : least;
	}
	return least;
}

static void events(long size)
{
	static uint8_t one[70100], block[BLOCK + sizeof(one)];
	struct peer *publisher = join();
	size_t n = event(one, "bench.event", (size_t)size), used = 0;
	pthread_t thread;
	double start, took;

	for (int i = 0; i < n_subs; i++) {
		subs[i] = join();
		subscribe(subs[i], "bench.event");
	}
	pthread_create(&thread, NULL, reader, NULL);
	start = now();
	for (long sent = 0; sent < count;) {
		memcpy(block + used, one, n);
		used += n;
		sent++;
		if (used < BLOCK && sent < count && sent % (WINDOW / 8) != 0)
			continue;
		put(publisher->fd, block, used);
		used = 0;
		while (sent - slowest() >= WINDOW) {
			struct timespec pause = {.tv_nsec = 20000};

			nanosleep(&pause, NULL);
		}
	}
	pthread_join(thread, NULL);
	took = now() - start;
	printf("%.0f\n", (double)count * n_subs / took);
}

/* rpc */

static void *replier(void *arg)
{
	struct peer *p = arg;
	uint8_t out[512];
	char text[256], *id;
	size_t n;

	for (;;) {
		const uint8_t *at = next(p, &n);

		if (mqtt) {
			put(p->fd, out, event(out, "bench.reply", 32));
			continue;
		}
		id = memmem(at, n, "\"id\":\"", 6);
		if (id == NULL)
			die("a request without an id");
		id += 6;
		snprintf(
			text, sizeof(text),
			"{\"type\":\"call.responded\",\"id\":\"%.*s\",\"payload\":{\"output\":\"xxxxxxxxxxxxxxxxxxxx\"}}",
			(int)strcspn(id, "\""), id);
		put(p->fd, out, frame(out, text));
	}
	return NULL;
}

static int by_time(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void rpc(void)
{
	struct peer *server = join(), *client = join();
	double *took = calloc((size_t)count, sizeof(*took));
	uint8_t out[1024];
	char text[512];
	pthread_t thread;
	size_t n;

	if (mqtt) {
		subscribe(server, "bench.request");
		subscribe(client, "bench.reply");
	} else {
		put(server->fd, out,
		    frame(out,
			  "{\"type\":\"call.requested\",\"id\":\"r\",\"payload\":{\"operationId\":\"/hub/services/register\","
			  "\"input\":{\"spoke\":\"bench\",\"operations\":[{\"name\":\"/echo\"}]}}}"));
		next(server, &n);
	}
	pthread_create(&thread, NULL, replier, server);
	for (long i = 0; i < count; i++) {
		double start = now();

		if (mqtt) {
			put(client->fd, out, event(out, "bench.request", 32));
		} else {
			snprintf(
				text, sizeof(text),
				"{\"type\":\"call.requested\",\"id\":\"%ld\",\"payload\":{\"operationId\":\"/bench/echo\",\"input\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}}",
				i);
			put(client->fd, out, frame(out, text));
		}
		next(client, &n);
		took[i] = (now() - start) * 1e6;
	}
	qsort(took, (size_t)count, sizeof(*took), by_time);
	printf("%.1f %.1f\n", took[count / 2], took[count * 99 / 100]);
}

static void hold(void)
{
	struct peer *p = join();
	char topic[64], byte;

	for (long i = 0; i < count; i++) {
		snprintf(topic, sizeof(topic), "bench.idle.%ld", i);
		subscribe(p, topic);
	}
	printf("ready\n");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		die("read");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 3 ? argv[3] : "";

	if (argc < 5)
		return 2;
	mqtt = strcmp(argv[1], "mqtt") == 0;
	address = argv[2];
	count = atol(argv[4]);
	if (strcmp(mode, "events") == 0 && argc == 7) {
		n_subs = atoi(argv[6]);
		events(atol(argv[5]));
	} else if (strcmp(mode, "rpc") == 0) {
		rpc();
	} else if (strcmp(mode, "hold") == 0) {
		hold();
	} else {
		return 2;
	}
	return 0;
}
