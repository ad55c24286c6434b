/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "program.h"

#include <errno.h>
#include <stdlib.h>
#include "loop_private.h"

struct program {
	alk_program_open_fn *open;
	void *user;
};

static const char program_key;

int alk_program_set(struct alk_loop *loop, alk_program_open_fn *open, void *user)
{
	struct program *program = alk_loop_kept(loop, &program_key);

	if (program == NULL) {
		program = calloc(1, sizeof(*program));
		if (program == NULL || alk_loop_keep(loop, &program_key, program, free) != 0) {
			free(program);
			return -ENOMEM;
		}
	}
	program->open = open;
	program->user = user;
	return 0;
}

bool alk_program_offer(struct alk_loop *loop, struct alk_channel *channel,
		       const struct alk_destination *to)
{
	const struct program *program = alk_loop_kept(loop, &program_key);

	return program != NULL && program->open != NULL &&
	       program->open(program->user, channel, to);
}
