/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A server on the program's own libev loop, until SIGTERM or SIGINT.
 *
 *     cc serve.c $(pkg-config --cflags --libs alknet) -lev
 *     ./a.out HOST_KEY AUTHORIZED_KEYS ADDRESS:PORT */
#include <alknet/alknet.h>
#include <ev.h>
#include <stdio.h>

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	ev_break(loop, EVBREAK_ALL);
}

int main(int argc, char **argv)
{
	struct alk_err err = {"HOST_KEY AUTHORIZED_KEYS ADDRESS:PORT are missing"};
	struct alk_embed *embed = argc == 4 ? alk_embed_new(EV_DEFAULT, &err) : NULL;
	struct alk_embed_server *server = NULL;
	ev_signal term, interrupt;
	int status = 1;

	if (embed != NULL) {
		const struct alk_setting settings[] = {{"key", argv[1]},
						       {"authorized_keys", argv[2]},
						       {"listen", argv[3]},
						       {0}};

		server = alk_embed_server_new(embed, NULL, settings, NULL, NULL, &err);
	}
	if (server != NULL) {
		ev_signal_init(&term, on_signal, SIGTERM);
		ev_signal_start(EV_DEFAULT, &term);
		ev_signal_init(&interrupt, on_signal, SIGINT);
		ev_signal_start(EV_DEFAULT, &interrupt);
		printf("listening on %s\n", alk_embed_server_address(server, 0));
		fflush(stdout);
		ev_run(EV_DEFAULT, 0);
		status = 0;
	} else {
		fprintf(stderr, "%s\n", err.text);
	}
	alk_embed_free(&embed);
	return status;
}
