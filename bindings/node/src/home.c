/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The loop and its thread: one in the process, for whoever uses it. */
#include "binding.h"

#include <errno.h>

static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER; /* begins and ends one by one */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows */
static pthread_rwlock_t visits =
	PTHREAD_RWLOCK_INITIALIZER; /* of those who visit, and of the loop's end */
static struct alk_embed *embed;
static unsigned users;
static bool over; /* the process exits */

int home_enter(struct alk_err *err)
{
	struct alk_embed *made = NULL;
	int rc = 0;

	pthread_mutex_lock(&life);
	if (over)
		rc = alk_err_set(err, -ESHUTDOWN, "the process exits");
	else if (users == 0 && (made = alk_embed_new(NULL, err)) == NULL)
		rc = -EBUSY;
	if (rc == 0)
		users++;
	if (made != NULL) {
		pthread_mutex_lock(&lock);
		embed = made;
		pthread_mutex_unlock(&lock);
	}
	pthread_mutex_unlock(&life);
	return rc;
}

void home_leave(bool now)
{
	struct alk_embed *old = NULL;

	pthread_mutex_lock(&life);
	if (users > 0)
		users--;
	over = over || now;
	if (users == 0 || over) {
		pthread_mutex_lock(&lock);
		old = embed;
		embed = NULL;
		pthread_mutex_unlock(&lock);
	}
	pthread_rwlock_wrlock(&visits);
	alk_embed_free(&old);
	pthread_rwlock_unlock(&visits);
	pthread_mutex_unlock(&life);
}

int home_post(void (*fn)(void *user), void *user)
{
	int rc;

	pthread_mutex_lock(&lock);
	rc = embed != NULL ? alk_embed_post(embed, fn, user) : -ESHUTDOWN;
	pthread_mutex_unlock(&lock);
	return rc;
}

/* On the loop's thread it lives as long as whoever asks; while it is being freed nothing is made
 * any more. */
struct alk_embed *home_embed(void)
{
	struct alk_embed *now;

	pthread_mutex_lock(&lock);
	now = embed;
	pthread_mutex_unlock(&lock);
	return now;
}

struct alk_embed *home_visit(bool wait)
{
	struct alk_embed *now;

	pthread_rwlock_rdlock(&visits);
	now = home_embed();
	if (now != NULL && alk_embed_enter(now, wait))
		return now;
	pthread_rwlock_unlock(&visits);
	return NULL;
}

void home_unvisit(struct alk_embed *visited)
{
	alk_embed_leave(visited);
	pthread_rwlock_unlock(&visits);
}
