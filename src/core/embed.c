/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "embed_private.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "log_private.h"
#include "readahead.h"

#define ATTEND_US 250
#define CONTENT "_content" /* after an option's name: what follows is the file's content */

struct embed_post {
	void (*fn)(void *user);
	void *user;
	struct embed_post *next;
};

/* What alk_embed is besides: nothing of this concerns servers and clients. */
struct embed {
	struct alk_embed pub;
	bool threaded, attends;
	pthread_t thread;
	int wake; /* eventfd */
	struct alk_io *io;
	pthread_mutex_t lock; /* of the list of posts */
	struct embed_post *posts, **posts_end;
};

/* The log, the board of counters and libssh are the process's. */
static atomic_flag taken = ATOMIC_FLAG_INIT;

static struct embed *embed_of(struct alk_embed *pub)
{
	return (struct embed *)pub; /* the first member */
}

static void embed_wake(struct embed *embed)
{
	uint64_t one = 1;

	/* A counter that is full wakes all the same. */
	while (write(embed->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Where others wait already the loop has been woken. */
static void post_add(struct embed *embed, struct embed_post *post)
{
	bool first;

	pthread_mutex_lock(&embed->lock);
	first = embed->posts == NULL;
	*embed->posts_end = post;
	embed->posts_end = &post->next;
	pthread_mutex_unlock(&embed->lock);
	if (first)
		embed_wake(embed);
}

int alk_embed_post(struct alk_embed *pub, void (*fn)(void *user), void *user)
{
	struct embed *embed = embed_of(pub);
	struct embed_post *post = malloc(sizeof(*post));

	if (post == NULL)
		return -ENOMEM;
	*post = (struct embed_post){.fn = fn, .user = user};
	post_add(embed, post);
	return 0;
}

void alk_embed_attend(struct alk_embed *pub)
{
	if (embed_of(pub)->attends)
		alk_loop_attend(pub->loop, ATTEND_US);
}

static void posts_run(struct embed *embed)
{
	struct embed_post *post, *next;

	pthread_mutex_lock(&embed->lock);
	post = embed->posts;
	embed->posts = NULL;
	embed->posts_end = &embed->posts;
	pthread_mutex_unlock(&embed->lock);
	for (; post != NULL; post = next) {
		next = post->next;
		post->fn(post->user);
		free(post);
	}
}

static void on_wake(void *user, int revents)
{
	struct embed *embed = user;
	uint64_t count;

	(void)revents;
	if (read(embed->wake, &count, sizeof(count)) > 0)
		posts_run(embed);
}

bool alk_embed_enter(struct alk_embed *pub, bool wait)
{
	struct embed *embed = embed_of(pub);

	if (!embed->threaded || !alk_loop_enter(pub->loop, wait))
		return false;
	pub->visits++;
	alk_readahead_thread(true);
	posts_run(embed);
	return true;
}

void alk_embed_leave(struct alk_embed *pub)
{
	bool wake = alk_loop_leave(pub->loop);

	alk_readahead_thread(false);
	if (wake)
		embed_wake(embed_of(pub));
}

void alk_embed_serve(struct alk_embed *pub, int epoll)
{
	(void)pub;
	alk_loop_serve(epoll);
}

/* Nothing of ours ends a program's loop. */
static void on_loop_stop(void *user)
{
	(void)user;
}

static void *thread_main(void *user)
{
	struct embed *embed = user;

	alk_readahead_thread(true);
	alk_loop_run(embed->pub.loop);
	return NULL;
}

static int thread_start(struct embed *embed, struct alk_err *err)
{
	sigset_t all, before;
	int rc;

	embed->attends = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	alk_loop_share(embed->pub.loop);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&embed->thread, NULL, thread_main, embed);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	embed->threaded = rc == 0;
	return rc == 0 ? 0 : alk_err_set(err, -rc, "cannot start a thread: %s", strerror(rc));
}

static void sigpipe_ignore(void)
{
	struct sigaction action;

	if (sigaction(SIGPIPE, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
	    action.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

static void embed_deinit(struct embed *embed)
{
	alk_io_free(&embed->io);
	if (embed->pub.loop != NULL) {
		alk_log_attach(NULL);
		alk_loop_set_guest(embed->pub.loop, NULL, NULL);
		alk_loop_free(&embed->pub.loop);
	}
	alk_fd_close(&embed->wake);
	pthread_mutex_destroy(&embed->lock);
	free(embed);
	atomic_flag_clear(&taken);
}

static int embed_init(struct embed *embed, struct ev_loop *loop, struct alk_err *err)
{
	embed->pub.loop = loop != NULL ? alk_loop_wrap(loop, err) : alk_loop_new(err);
	if (embed->pub.loop == NULL)
		return -ENOMEM;
	embed->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (embed->wake < 0)
		return alk_err_set(err, -errno, "cannot make an eventfd: %s", strerror(errno));
	embed->io = alk_io_new(embed->pub.loop, embed->wake, "posts", on_wake, embed);
	if (embed->io == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	alk_io_set(embed->io, ALK_IO_READ);
	alk_loop_set_guest(embed->pub.loop, on_loop_stop, embed);
	alk_log_attach(embed->pub.loop);
	sigpipe_ignore();
	return loop == NULL ? thread_start(embed, err) : 0;
}

struct alk_embed *alk_embed_new(struct ev_loop *loop, struct alk_err *err)
{
	struct embed *embed;

	if (atomic_flag_test_and_set(&taken)) {
		alk_err_set(err, -EBUSY, "there is an alk_embed in this process already");
		return NULL;
	}
	embed = calloc(1, sizeof(*embed));
	if (embed == NULL) {
		atomic_flag_clear(&taken);
		alk_err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	embed->wake = -1;
	embed->posts_end = &embed->posts;
	pthread_mutex_init(&embed->lock, NULL);
	if (embed_init(embed, loop, err) < 0) {
		embed_deinit(embed);
		return NULL;
	}
	return &embed->pub;
}

/* On the loop's thread: everything that lives on the loop goes. */
static void embed_end(void *user)
{
	struct embed *embed = user;

	while (embed->pub.clients != NULL) {
		struct alk_embed_client *client = embed->pub.clients;

		alk_embed_client_free(&client);
	}
	while (embed->pub.servers != NULL) {
		struct alk_embed_server *server = embed->pub.servers;

		alk_embed_server_free(&server);
	}
	if (embed->threaded) {
		alk_loop_set_guest(embed->pub.loop, NULL, NULL);
		alk_loop_stop(embed->pub.loop);
	}
}

void alk_embed_free(struct alk_embed **pub)
{
	struct embed *embed = *pub != NULL ? embed_of(*pub) : NULL;
	struct embed_post end = {.fn = embed_end, .user = embed};

	if (embed == NULL)
		return;
	*pub = NULL;
	if (embed->threaded) {
		struct embed_post *last = malloc(sizeof(*last));

		/* Without memory for a message there is none for anything else either. */
		if (last == NULL)
			abort();
		*last = end;
		post_add(embed, last);
		pthread_join(embed->thread, NULL);
	} else {
		posts_run(embed);
		embed_end(embed);
	}
	embed_deinit(embed);
}

/* ---- configuration ---- */

bool embed_setting_is(const struct alk_setting *setting, const char *option)
{
	size_t len = strlen(option);

	return strncmp(setting->name, option, len) == 0 &&
	       (setting->name[len] == '\0' || strcmp(setting->name + len, CONTENT) == 0);
}

int embed_set(struct alk_conf *conf, const struct alk_setting *setting, struct alk_err *err)
{
	size_t len = strlen(setting->name), tail = strlen(CONTENT);
	char option[64];

	if (len <= tail || len - tail >= sizeof(option) ||
	    strcmp(setting->name + len - tail, CONTENT) != 0)
		return alk_conf_set(conf, setting->name, setting->value, "program", err);
	memcpy(option, setting->name, len - tail);
	option[len - tail] = '\0';
	return alk_conf_set_content(conf, option, setting->value, strlen(setting->value), "program",
				    err);
}

static int conf_give(struct alk_conf *conf, enum alk_role role, const char *table,
		     const struct alk_setting *settings, struct alk_err *err)
{
	const char *plugins = getenv("ALKNET_PLUGIN_DIR");
	const struct alk_setting *s;
	int rc = 0;

	if (table != NULL)
		rc = alk_conf_load_text(conf, "the configuration", table, strlen(table), err);
	for (s = settings; rc == 0 && s != NULL && s->name != NULL; s++)
		rc = embed_set(conf, s, err);
	if (rc == 0 && plugins != NULL && !alk_options_has(alk_conf_values(conf), "plugin_dir"))
		rc = alk_conf_set(conf, "plugin_dir", plugins, "environment", err);
	if (rc == 0 && role == ALK_ROLE_SUPERVISOR) {
		const struct alk_options *values = alk_conf_values(conf);

		if (alk_options_has(values, "user"))
			rc = alk_err_set(err, -EINVAL,
					 "user: the program's account is the program's own");
		else if (alk_options_has(values, "workers") &&
			 alk_options_int(values, "workers") != 0)
			rc = alk_err_set(err, -EINVAL,
					 "workers: a server in a program has none, 0");
		else if (!alk_options_has(values, "workers"))
			rc = alk_conf_set(conf, "workers", "0", "default", err);
		if (rc == 0 && !alk_options_has(values, "admin_socket"))
			rc = alk_conf_set(conf, "admin_socket", "none", "default", err);
	}
	return rc;
}

static int client_refuse(const struct alk_conf *conf, struct alk_err *err)
{
	static const char *const listeners[] = {"forward", "remote_forward", "socks5", "stdio",
						"bus",	   "admin_socket"};

	for (size_t i = 0; i < sizeof(listeners) / sizeof(*listeners); i++)
		if (alk_options_has(alk_conf_values(conf), listeners[i]))
			return alk_err_set(err, -EINVAL,
					   "%s: a client in a program has no listeners, it opens "
					   "streams",
					   listeners[i]);
	return 0;
}

struct alk_conf *embed_conf(enum alk_role role, const char *table,
			    const struct alk_setting *settings, struct alk_err *err)
{
	struct alk_conf *conf = alk_conf_new(role);
	int rc = conf != NULL ? 0 : alk_err_set(err, -ENOMEM, "out of memory");

	if (rc == 0)
		rc = conf_give(conf, role, table, settings, err);
	if (rc == 0 && role == ALK_ROLE_CLIENT)
		rc = client_refuse(conf, err);
	if (rc == 0)
		rc = alk_conf_finish(conf, err);
	if (rc == 0)
		rc = alk_conf_read_files(conf, err);
	if (rc < 0)
		alk_conf_free(&conf);
	return conf;
}
