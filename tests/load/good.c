/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <stdlib.h>
#include "load.h"

static int good_init(const struct alk_plugin_env *env, void **state, struct alk_err *err)
{
	struct load_state *s;

	if (alk_options_bool(env->options, "fail"))
		return alk_err_set(err, -EIO, "told to fail");
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	s->role = env->role;
	s->loop = env->loop;
	s->word = alk_options_str(env->options, "word");
	s->connect_timeout = env->connect_timeout;
	*state = s;
	return 0;
}

static void good_deinit(void **state)
{
	struct load_state *s = *state;

	if (s->deinits != NULL)
		++*s->deinits;
	free(s);
	*state = NULL;
}

static const struct alk_option good_options[] = {
	{.name = "word", .type = ALK_OPT_STRING, .fallback = "none", .help = "a word"},
	{.name = "fail", .type = ALK_OPT_BOOL, .fallback = "false", .help = "let init fail"},
	{.type = ALK_OPT_END},
};

LOAD_RECORD(LOAD_HEAD, .kind = ALK_PLUGIN_SERVICE, .name = "good", .version = "1.2",
	    .options = good_options, .init = good_init, .deinit = good_deinit,
	    .ops.service = &load_service);
