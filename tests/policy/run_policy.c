/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The corpus of hostile scripts (THREATS 65, 66).
 *
 * hostile/load/NAME.lua: a whole script that must be refused when it is loaded.
 * hostile/ask/NAME.lua: the body of on_open (or on_auth, when its first line is "-- auth") for
 * everybody but the user "good", who is forwarded. Asked as another it must be denied as a failure
 * within the budget; asked as "good" after that, it must still answer right (or, when the first
 * line is "-- wrecks", right or denied), and so must another script in a state of its own. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "policy.h"

#define PREFIX                                                                                     \
	"return { %s = function(session, destination) "                                            \
	"if session.user == 'good' then return %s end "
#define SUFFIX "\nend }"
#define SCRIPT_MAX (1024 * 1024)
#define TIMES 3

static unsigned number, failures;
static bool slow; /* valgrind or sanitizers */

struct corpus_script {
	char *text;
	size_t len;
	bool auth, wrecks;
};

static void result(bool ok, const char *name, const char *why)
{
	printf("%s %u - %s\n", ok ? "ok" : "not ok", ++number, name);
	if (ok)
		return;
	printf("# %s\n", why);
	failures++;
}

static double cpu_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static char *file_read(const char *dir, const char *name, size_t *len)
{
	char path[4096], *text = malloc(SCRIPT_MAX + 1);
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "re");
	if (!file || !text) {
		fprintf(stderr, "%s: %m\n", path);
		exit(1);
	}
	*len = fread(text, 1, SCRIPT_MAX, file);
	text[*len] = '\0';
	fclose(file);
	return text;
}

static struct corpus_script script_make(const char *dir, const char *name)
{
	struct corpus_script script = {0};
	char *body = file_read(dir, name, &script.len);
	int n;

	script.auth = strncmp(body, "-- auth\n", 8) == 0;
	script.wrecks = strncmp(body, "-- wrecks\n", 10) == 0;
	n = asprintf(&script.text, PREFIX "%s" SUFFIX, script.auth ? "on_auth" : "on_open",
		     script.auth ? "'pass'" : "'forward', { host = 'good.example.com', port = 7 }",
		     body);
	free(body);
	if (n < 0)
		exit(1);
	script.len = (size_t)n;
	return script;
}

static struct alk_policy *policy_make(const char *name, const char *text, size_t len,
				      struct alk_err *err)
{
	struct alk_policy_limits limits = {.resume_ms = slow ? 200 : 20};

	return alk_policy_new(NULL, name, text, len, &limits, err);
}

static void ask(struct alk_policy *policy, bool auth, const char *user, struct alk_answer *answer)
{
	struct alk_link link = {.fd = -1, .transport = "tcp", .remote_addr = "203.0.113.66"};
	struct alk_destination to = {.host = "evil.example.com", .port = 443};
	struct alk_grant *grant = alk_grant_new(NULL, user, NULL, NULL, NULL);
	struct alk_ask question = {
		.question = auth ? ALK_QUESTION_AUTH : ALK_QUESTION_OPEN,
		.link = &link,
		.user = user,
		.grant = grant,
		.to = &to,
	};

	if (!grant)
		exit(1);
	alk_policy_ask_now(policy, &question, answer);
	alk_grant_unref(&answer->grant);
	alk_grant_unref(&grant);
}

/* Answers the good user as it should? `failed` is told apart: a wrecked state may deny. */
static bool good_answer(struct alk_policy *policy, bool auth, bool may_fail)
{
	struct alk_answer answer;

	ask(policy, auth, "good", &answer);
	if (answer.failed)
		return may_fail && answer.verdict == ALK_VERDICT_DENY;
	if (auth)
		return answer.verdict == ALK_VERDICT_PASS;
	return answer.verdict == ALK_VERDICT_FORWARD && answer.port == 7 &&
	       strcmp(answer.host, "good.example.com") == 0;
}

static bool other_state_answers(void)
{
	static const char text[] = "return { on_open = function() return 'forward', "
				   "{ host = 'good.example.com', port = 7 } end }";
	struct alk_policy *policy = policy_make("other.lua", text, sizeof(text) - 1, NULL);
	bool ok = policy && good_answer(policy, false, false);

	alk_policy_free(&policy);
	return ok;
}

static const char *ask_hostile(struct alk_policy *policy, const struct corpus_script *script)
{
	static char why[512];
	double before = cpu_ms(), took, most = slow ? 10000 : 1000;
	struct alk_answer answer;

	ask(policy, script->auth, "mallory", &answer);
	took = cpu_ms() - before;
	printf("# %.1f ms, %s: %s\n", took, answer.where, answer.reason);
	if (answer.verdict != ALK_VERDICT_DENY)
		return "was not denied";
	if (!answer.failed)
		return "was not a failure";
	if (answer.reason[0] == '\0' || answer.where[0] == '\0')
		return "was not explained";
	if (took <= most)
		return NULL;
	snprintf(why, sizeof(why), "took %.0f ms of processor time", took);
	return why;
}

static const char *check_ask(const char *dir, const char *name)
{
	struct corpus_script script = script_make(dir, name);
	struct alk_policy *policy;
	static struct alk_err err;
	const char *why = NULL;
	int i;

	policy = policy_make(name, script.text, script.len, &err);
	if (!policy)
		why = err.text;
	else if (!good_answer(policy, script.auth, false))
		why = "the good user was not answered before";
	for (i = 0; !why && i < TIMES; i++) {
		why = ask_hostile(policy, &script);
		if (!why && !good_answer(policy, script.auth, script.wrecks))
			why = "the good user was not answered after";
		if (!why && !other_state_answers())
			why = "a new state does not answer";
	}
	alk_policy_free(&policy);
	free(script.text);
	return why;
}

static const char *check_load(const char *dir, const char *name)
{
	size_t len;
	char *text = file_read(dir, name, &len);
	struct alk_err err = {.text = ""};
	struct alk_policy *policy = policy_make(name, text, len, &err);
	const char *why = NULL;

	printf("# %s\n", err.text);
	if (policy)
		why = "was loaded";
	else if (!strstr(err.text, name))
		why = "the sentence does not name the file";
	else if (!other_state_answers())
		why = "a new state does not answer";
	alk_policy_free(&policy);
	free(text);
	return why;
}

static int is_script(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 4 && strcmp(entry->d_name + len - 4, ".lua") == 0;
}

static void run_dir(const char *corpus, const char *sub, const char *only,
		    const char *(*check)(const char *dir, const char *name))
{
	char dir[4096], label[512];
	struct dirent **list;
	const char *why;
	int n, i;

	snprintf(dir, sizeof(dir), "%s/%s", corpus, sub);
	n = scandir(dir, &list, is_script, alphasort);
	if (n <= 0) {
		fprintf(stderr, "%s: no scripts\n", dir);
		exit(1);
	}
	for (i = 0; i < n; i++) {
		snprintf(label, sizeof(label), "%s/%s", sub, list[i]->d_name);
		if (!only || strstr(label, only)) {
			why = check(dir, list[i]->d_name);
			result(!why, label, why);
		}
		free(list[i]);
	}
	free(list);
}

static bool env_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value;
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("ALKNET_SRCDIR");
	char corpus[4000];

	slow = env_set("ALKNET_VALGRIND") || env_set("ALKNET_SANITIZERS");
	snprintf(corpus, sizeof(corpus), "%s/tests/policy/hostile", srcdir ? srcdir : ".");
	run_dir(corpus, "load", argc > 1 ? argv[1] : NULL, check_load);
	run_dir(corpus, "ask", argc > 1 ? argv[1] : NULL, check_ask);
	printf("1..%u\n# %u failed\n", number, failures);
	return failures ? 1 : 0;
}
