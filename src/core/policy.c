/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include <alknet/log.h>
#include "board.h"
#include "policy_private.h"

/* The questions: what answers each of them, what is counted and logged. */

#define LOG_EVERY_NS 1000000000ull

static_assert(ALK_VERDICT_DENY == 0, "the zero value must be the safe one");

#define X(id_, name_, words_) " " name_
static const char question_list[] = ALK_QUESTIONS(X);
#undef X

static const char *const question_names[ALK_QUESTION_COUNT] = {
#define X(id_, name_, words_) [ALK_QUESTION_##id_] = name_,
	ALK_QUESTIONS(X)
#undef X
};

const char *alk_question_str(enum alk_question question)
{
	if (question == ALK_QUESTION_OPERATION)
		return "operation";
	return question < ALK_QUESTION_COUNT ? question_names[question] : "?";
}

enum alk_question alk_question_find(const char *name)
{
	int i;

	for (i = 0; i < ALK_QUESTION_COUNT; i++)
		if (strcmp(name, question_names[i]) == 0)
			break;
	return (enum alk_question)i;
}

const char *alk_verdict_str(enum alk_verdict verdict)
{
	static const char *const words[] = {
#define X(id_, word_) [ALK_VERDICT_##id_] = word_,
		ALK_VERDICTS(X)
#undef X
	};

	return (size_t)verdict < sizeof(words) / sizeof(words[0]) ? words[verdict] : "deny";
}

bool alk_destination_reserved(const char *host)
{
	return strncmp(host, "alknet-", 7) == 0;
}

static void built_in_open(const struct alk_destination *to, struct alk_answer *answer)
{
	static const char *const services[][2] = {
		{"alknet-control", "bus"},
		{"alknet-secret", "secret"},
		{"alknet-status", "status"},
	};
	size_t i;

	/* The admin socket, a container engine's: a unix socket is never a default. */
	if (to->path[0]) {
		snprintf(answer->reason, sizeof(answer->reason),
			 "a unix socket is opened by a policy alone");
		return;
	}
	if (!alk_destination_reserved(to->host)) {
		answer->verdict = ALK_VERDICT_FORWARD;
		return;
	}
	for (i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		if (strcmp(to->host, services[i][0]) == 0) {
			answer->verdict = ALK_VERDICT_SERVICE;
			snprintf(answer->service, sizeof(answer->service), "%s", services[i][1]);
			return;
		}
	snprintf(answer->reason, sizeof(answer->reason), "no such service");
}

bool alk_bind_is_loopback(const struct alk_destination *to)
{
	struct in6_addr six;
	struct in_addr four;

	if (to->path[0])
		return false;
	if (strcmp(to->host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, to->host, &four) == 1)
		return ntohl(four.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, to->host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static void built_in_listen(const struct alk_ask *ask, struct alk_answer *answer)
{
	if (!ask->to->path[0] && (ask->gateway_ports || alk_bind_is_loopback(ask->to)))
		answer->verdict = ALK_VERDICT_ALLOW;
	else
		snprintf(answer->reason, sizeof(answer->reason),
			 "only loopback addresses are listened on");
}

static void built_in_answer(const struct alk_ask *ask, struct alk_answer *answer)
{
	snprintf(answer->where, sizeof(answer->where), "built-in");
	switch (ask->question) {
	case ALK_QUESTION_LINK:
		answer->verdict = ALK_VERDICT_ALLOW;
		break;
	case ALK_QUESTION_AUTH:
		answer->verdict = ALK_VERDICT_PASS;
		break;
	case ALK_QUESTION_PUBLISH:
	case ALK_QUESTION_SUBSCRIBE:
	case ALK_QUESTION_CALL:
		answer->verdict = ALK_VERDICT_ALLOW;
		break;
	case ALK_QUESTION_OPEN:
		built_in_open(ask->to, answer);
		break;
	case ALK_QUESTION_LISTEN:
		built_in_listen(ask, answer);
		break;
	case ALK_QUESTION_EVENT:
	case ALK_QUESTION_CLOSE:
	case ALK_QUESTION_COUNT:
	case ALK_QUESTION_OPERATION:
		break;
	}
}

static int question_push(lua_State *L, void *user)
{
	struct alk_question_run *question = user;

	if (question->ask->question == ALK_QUESTION_OPERATION)
		lua_rawgeti(L, LUA_REGISTRYINDEX, question->ask->function);
	else
		lua_rawgeti(L, LUA_REGISTRYINDEX,
			    question->policy->function[question->ask->question]);
	return 1 + alk_policy_push_ask(L, question->ask);
}

static int question_read(lua_State *L)
{
	struct alk_question_run *question = lua_touserdata(L, 1);

	alk_answer_read(question->run.co, question->run.nresults, question->ask, &question->answer);
	return 0;
}

static void answer_fail(struct alk_answer *answer, const char *why)
{
	alk_grant_unref(&answer->grant);
	json_decref(answer->output);
	memset(answer, 0, sizeof(*answer));
	answer->failed = true;
	snprintf(answer->reason, sizeof(answer->reason), "%s", why);
}

static int script_start(struct alk_question_run *question)
{
	struct alk_policy *policy = question->policy;

	question->begun = true;
	question->wait.count = 0;
	if (alk_run_start(&policy->box, &question->run, policy->limits.total_ms, question_push,
			  question) < 0)
		return -EIO;
	/* Who asks these does not wait for the answer. */
	if (question->ask->question != ALK_QUESTION_LISTEN &&
	    question->ask->question != ALK_QUESTION_CLOSE)
		question->run.wait = &question->wait;
	return 0;
}

static void script_end(struct alk_question_run *question, int rc)
{
	struct alk_policy *policy = question->policy;
	struct alk_run *run = &question->run;
	struct alk_answer *answer = &question->answer;

	if (rc < 0)
		answer_fail(answer, run->error);
	snprintf(answer->where, sizeof(answer->where), "%s",
		 run->where[0] ? run->where : policy->name);
	answer->elapsed_us = (uint32_t)(run->elapsed_ns / 1000);
	alk_run_end(&policy->box, run);
}

/* A broken script must not fill the disk: one line a second, with the number of those left out. */
static void failure_log(struct alk_policy *policy, const struct alk_ask *ask,
			const struct alk_answer *answer)
{
	uint64_t now = alk_policy_clock();

	if (policy->logged_at && now - policy->logged_at < LOG_EVERY_NS) {
		policy->suppressed++;
		return;
	}
	alk_log(ALK_LOG_ERROR, "policy failed",
		ALK_STR("question", alk_question_str(ask->question)),
		ALK_STR("operation", ask->question == ALK_QUESTION_OPERATION ? ask->name : ""),
		ALK_STR("where", answer->where), ALK_STR("error", answer->reason),
		ALK_INT("suppressed", policy->suppressed));
	policy->logged_at = now;
	policy->suppressed = 0;
}

static void answer_count(struct alk_policy *policy, const struct alk_ask *ask,
			 const struct alk_answer *answer)
{
	alk_count(ALK_M_POLICY_ASKED, 1);
	if (answer->verdict == ALK_VERDICT_DENY && ask->question < ALK_QUESTION_EVENT)
		alk_count(ALK_M_POLICY_DENIED, 1);
	if (!answer->failed)
		return;
	alk_count(ALK_M_POLICY_ERRORS, 1);
	failure_log(policy, ask, answer);
}

int alk_question_step(struct alk_question_run *question)
{
	struct alk_policy *policy = question->policy;
	int rc = 0;

	if (!alk_policy_has(policy, question->ask->question)) {
		built_in_answer(question->ask, &question->answer);
		answer_count(policy, question->ask, &question->answer);
		return 0;
	}
	if (!question->begun)
		rc = script_start(question);
	if (rc == 0)
		rc = alk_run_resume(&policy->box, &question->run, policy->limits.resume_ms);
	if (rc == -EAGAIN)
		return rc;
	if (rc == 0)
		rc = alk_policy_sandbox_call(&policy->box, question_read, question,
					     question->run.error, sizeof(question->run.error));
	script_end(question, rc);
	answer_count(policy, question->ask, &question->answer);
	return 0;
}

void alk_question_fail(struct alk_question_run *question, const char *why)
{
	alk_run_abort(&question->run, why);
	script_end(question, -EIO);
	answer_count(question->policy, question->ask, &question->answer);
}

void alk_question_drop(struct alk_question_run *question)
{
	alk_run_end(&question->policy->box, &question->run);
}

void alk_policy_ask_now(struct alk_policy *policy, const struct alk_ask *ask,
			struct alk_answer *answer)
{
	struct alk_question_run question = {.policy = policy, .ask = ask};
	int rc;

	do {
		rc = alk_question_step(&question);
		if (rc == -EAGAIN && policy->stand_in)
			policy->stand_in(policy->stand_in_user, &question.wait);
	} while (rc == -EAGAIN && policy->stand_in);
	if (rc == -EAGAIN)
		alk_question_fail(&question, "the script waits where nothing can be waited for");
	*answer = question.answer;
}

bool alk_policy_has(const struct alk_policy *policy, enum alk_question question)
{
	if (question == ALK_QUESTION_OPERATION)
		return policy->scripted;
	return policy->scripted && question < ALK_QUESTION_COUNT &&
	       policy->function[question] != LUA_NOREF;
}

struct loading {
	struct alk_policy *policy;
	struct alk_run run;
};

/* A misspelt on_open would leave the built-in answer in force: no key may be unknown. */
static int functions_take(lua_State *L)
{
	struct loading *loading = lua_touserdata(L, 1);
	const char *name;
	int question;

	if (loading->run.nresults != 1 || !lua_istable(loading->run.co, -1))
		return luaL_error(L, "must return one table of functions");
	lua_xmove(loading->run.co, L, 1);
	if (lua_getmetatable(L, -1))
		return luaL_error(L, "the table that it returns has a metatable");
	for (lua_pushnil(L); lua_next(L, -2);) {
		name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2);
		question = (int)alk_question_find(name);
		if (question == ALK_QUESTION_COUNT)
			return luaL_error(L, "%s is not a question; they are%s", name,
					  question_list);
		if (!lua_isfunction(L, -1))
			return luaL_error(L, "%s is a %s, not a function", name,
					  luaL_typename(L, -1));
		loading->policy->function[question] = luaL_ref(L, LUA_REGISTRYINDEX);
	}
	return 0;
}

static int script_load(struct alk_policy *policy, const char *text, size_t len,
		       struct alk_shared *shared, struct alk_err *err)
{
	struct loading loading = {.policy = policy};
	char why[256];
	int rc;

	rc = alk_policy_sandbox_init(&policy->box, policy->name, policy->limits.memory, err);
	if (rc < 0)
		return rc;
	policy->declared = alk_policy_declared_new();
	if (!policy->declared)
		return alk_err_set(err, -ENOMEM, "not enough memory");
	policy->box.declared = policy->declared;
	policy->box.shared = shared;
	rc = alk_policy_sandbox_load(&policy->box, &loading.run, text, len, ALK_POLICY_LOAD_MS,
				     err);
	if (rc == 0 &&
	    alk_policy_sandbox_call(&policy->box, functions_take, &loading, why, sizeof(why)) < 0)
		rc = alk_err_set(err, -EINVAL, "%s: %s", policy->name, why);
	policy->box.declared = NULL;
	alk_run_end(&policy->box, &loading.run);
	policy->scripted = true;
	if (rc == 0 && alk_policy_declared_subscribes(policy->declared) &&
	    policy->function[ALK_QUESTION_EVENT] == LUA_NOREF)
		rc = alk_err_set(err, -EINVAL, "%s: alknet.subscribe is of no use without on_event",
				 policy->name);
	return rc;
}

struct alk_policy *alk_policy_new_shared(struct alk_loop *loop, const char *name, const char *text,
					 size_t len, const struct alk_policy_limits *limits,
					 struct alk_shared *shared, struct alk_err *err)
{
	struct alk_policy *policy = calloc(1, sizeof(*policy));
	int i;

	if (policy)
		policy->name = strdup(name ? name : "policy");
	if (!policy || !policy->name) {
		free(policy);
		alk_err_set(err, -ENOMEM, "not enough memory");
		return NULL;
	}
	policy->loop = loop;
	if (limits)
		policy->limits = *limits;
	for (i = 0; i < ALK_QUESTION_COUNT; i++)
		policy->function[i] = LUA_NOREF;
	if (text && script_load(policy, text, len, shared, err) < 0)
		alk_policy_free(&policy);
	return policy;
}

struct alk_policy *alk_policy_new(struct alk_loop *loop, const char *name, const char *text,
				  size_t len, const struct alk_policy_limits *limits,
				  struct alk_err *err)
{
	return alk_policy_new_shared(loop, name, text, len, limits, NULL, err);
}

void alk_policy_free(struct alk_policy **policy)
{
	struct alk_policy *p = *policy;
	struct alk_policy_asked *asked;

	*policy = NULL;
	if (!p)
		return;
	alk_policy_bus_leave(p);
	while (p->asked) {
		asked = p->asked;
		alk_policy_cancel(&asked);
	}
	alk_policy_sandbox_deinit(&p->box);
	alk_policy_declared_free(&p->declared);
	free(p->name);
	free(p);
}
