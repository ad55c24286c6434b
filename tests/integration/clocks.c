/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Loaded before everything else, it moves two of the clocks: the wall clock, as somebody sets it,
 * and the clock of the boot, as a suspend leaves it behind. ALKNET_TEST_CLOCKS is a file with two
 * 64-bit numbers of seconds, the first added to one, the second to the other, at any time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *moved;

__attribute__((constructor)) static void clocks_open(void)
{
	const char *path = getenv("ALKNET_TEST_CLOCKS");
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, 2 * sizeof(*moved), PROT_READ, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		moved = at;
	close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, clock, ts);

	if (rc == 0 && moved != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += moved[0];
	if (rc == 0 && moved != NULL && clock == CLOCK_BOOTTIME)
		ts->tv_sec += moved[1];
	return rc;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &ts);
	*tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *out)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (out != NULL)
		*out = ts.tv_sec;
	return ts.tv_sec;
}
