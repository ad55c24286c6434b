/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_TESTS_CHANNEL_PLAY_H
#define ALK_TESTS_CHANNEL_PLAY_H

/* A channel that is played, for services: it keeps what the service did with it. Include it once in
 * a test; it takes the place of the core's channels. */

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <alknet/alknet.h>

struct alk_channel {
	struct alk_loop *loop;
	int accepted, refused, attached, closed, eof, resumed; /* how often */
	enum alk_open_failure why;
	char text[512];
	int fd;	       /* that was attached */
	int attach_rc; /* what attach answers */
	int accept_rc;
	bool broken;   /* writes fail */
	size_t room;   /* what writes take before they are cut short */
	char out[256]; /* what was written */
	size_t out_len;
};

int alk_channel_accept(struct alk_channel *c)
{
	c->accepted++;
	return c->accept_rc;
}

void alk_channel_refuse(struct alk_channel *c, enum alk_open_failure why, const char *text)
{
	c->refused++;
	c->why = why;
	snprintf(c->text, sizeof(c->text), "%s", text);
	alk_loop_stop(c->loop);
}

int alk_channel_attach(struct alk_channel *c, int *fd)
{
	c->attached++;
	alk_loop_stop(c->loop);
	if (c->attach_rc < 0) {
		alk_fd_close(fd);
		return c->attach_rc;
	}
	c->fd = *fd;
	*fd = -1;
	return 0;
}

ssize_t alk_channel_write(struct alk_channel *c, const void *bytes, size_t n)
{
	if (c->broken)
		return -EPIPE;
	if (n > c->room)
		n = c->room;
	memcpy(c->out + c->out_len, bytes, n);
	c->out_len += n;
	c->out[c->out_len] = '\0';
	c->room -= n;
	return (ssize_t)n;
}

size_t alk_channel_room(struct alk_channel *c)
{
	return c->broken ? 0 : c->room;
}

void alk_channel_eof(struct alk_channel *c)
{
	c->eof++;
}

void alk_channel_resume(struct alk_channel *c)
{
	c->resumed++;
}

void alk_channel_close(struct alk_channel *c)
{
	c->closed++;
}

struct alk_loop *alk_channel_loop(const struct alk_channel *c)
{
	return c->loop;
}

#endif
