/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_POLICY_PRIVATE_H
#define ALK_POLICY_PRIVATE_H

/* Inside of the policy engine.
 *
 *   policy.c           the questions: what answers them, what is told and logged
 *   policy_ask.c       who asked, when it runs, and what it waits for
 *   policy_wait.c      alknet.resolve and alknet.sleep
 *   policy_grant.c     identities
 *   policy_sandbox.c   one Lua state with its budgets; runs a function as a coroutine
 *   policy_lib.c       the standard libraries, cut down
 *   policy_pattern.c   Lua's patterns with a clock in the matcher
 *   policy_string.c    string.find, match, gmatch, gsub on top of it
 *   policy_api.c       `alknet`
 *   policy_api.def     the list of what is in it: functions, arguments, text for the document
 *   policy_store.c     alknet.shared and alknet.limit
 *   policy_bus.c       alknet.operation, publish, subscribe: the script on the bus
 *   policy_codec.c     alknet.json, base64, sha256
 *   policy_args.c      the tables that a question hands to the script
 *   policy_cert.c      a certificate as on_auth sees it
 *   policy_answer.c    what the script returned, read strictly
 *   policy_test.c      the tests of a policy; policy_test_ask.c: how they ask
 *   policy_eval.c      questions put from outside: `alknet policy eval`, policy.eval
 *   policy_main.c      `alknet policy`
 *
 * Start here if you add a question: its line in ALK_QUESTIONS, its arguments in policy_args.c, its
 * words in policy_answer.c, its built-in answer in policy.c, scripts/policy.lua and the
 * document. */

#include <lauxlib.h>
#include <lua.h>
#include "policy.h"
#include "resolver.h"

#define ALK_POLICY_TEXT_MAX 255		   /* a peer's string in Lua; also a subject of a pattern */
#define ALK_POLICY_PATTERN_MAX 64	   /* bytes of a pattern */
#define ALK_POLICY_STRING_MAX (256 * 1024) /* any string: a comparison of two is one instruction */
#define ALK_POLICY_BLOCK_MAX                                                                       \
	(8 * 1024 * 1024)		    /* any block: a table that grows copies all of itself */
#define ALK_POLICY_LIST_MAX (1 << 20)	    /* elements that one call of `table` may walk over */
#define ALK_POLICY_SCRIPT_MAX (1024 * 1024) /* bytes of a script */
#define ALK_POLICY_RESUME_MS 20
#define ALK_POLICY_MEMORY (32 * 1024 * 1024)
#define ALK_POLICY_TOTAL_MS 5000      /* of a question, waiting included */
#define ALK_POLICY_LOAD_MS 1000	      /* for the main chunk */
#define ALK_POLICY_WAITING_MAX 1024   /* questions that wait */
#define ALK_POLICY_WAITING_SESSION 64 /* of them, of one session */
#define ALK_POLICY_WAITS_MAX 32	      /* waits in one question */
#define ALK_POLICY_RESOLVE_MS 4000    /* then alknet.resolve gives up */
#define ALK_POLICY_KEY_MAX 4096	      /* bytes of a key in base64 */

/* A Lua state and what it may use. Every coroutine of the state finds it through its extra
 * space. */
struct alk_policy_sandbox {
	uint32_t magic;
	lua_State *L;
	const char *name; /* of the script, for messages; borrowed */
	size_t used, cap;
	unsigned refused; /* allocations refused in a row; the second is after a full collection */
	/* Of the run under way: */
	uint64_t cpu_end;      /* the thread's CPU time at which the resume is over */
	uint64_t look_at;      /* monotonic: before this the CPU clock cannot have come so far */
	uint64_t end;	       /* monotonic: over in all, waiting included */
	const char *stopped;   /* why the run was stopped */
	lua_State *asked;      /* the coroutine whose outermost return is noted in `where` */
	struct alk_wait *wait; /* NULL: this run may not wait */
	char where[128];
	struct alk_shared *shared, *own_shared; /* made at first use when nobody gave one */
	struct alk_limiter *limiter;		/* made at first use */
	struct alk_policy_declared
		*declared;	       /* while the main chunk runs: what it wants of the bus */
	struct alk_bus_member *member; /* NULL: there is no bus */
	double given_now;	       /* what time a test says that it is; 0 = the real one */
	/* What the script says in the log. */
	uint64_t log_at;
	unsigned log_tokens, log_dropped;
};

/* `cap` 0 = 32 MiB. -ENOMEM with `err`. `name` is borrowed for life. */
int alk_policy_sandbox_init(struct alk_policy_sandbox *box, const char *name, size_t cap,
			    struct alk_err *err);
void alk_policy_sandbox_deinit(struct alk_policy_sandbox *box);
struct alk_policy_sandbox *alk_policy_sandbox_of(lua_State *L);
/* Is the run over its budget? Then its next instruction ends it. For C functions that work for
 * long. */
bool alk_policy_sandbox_is_over(lua_State *L);
/* The same, and raise the error at once. */
void alk_policy_sandbox_poll(lua_State *L);

enum alk_wait_kind {
	ALK_WAIT_NONE = 0,
	ALK_WAIT_SLEEP,
	ALK_WAIT_RESOLVE,
};

/* What a run that yielded waits for, and what came of it. */
struct alk_wait {
	enum alk_wait_kind kind; /* NONE: the script yielded by itself */
	uint64_t ms;		 /* SLEEP */
	char host[256];		 /* RESOLVE: passed alk_addr_check_name */
	unsigned count;		 /* waits of this question so far */
	/* RESOLVE: filled before the run is resumed. */
	char why[128]; /* when there is no address */
	size_t n;
	char addr[2 * ALK_RESOLVER_ADDRESSES][46];
};

/* Pushes a function and its arguments; returns how many values that are. May raise. */
typedef int alk_policy_sandbox_push(lua_State *L, void *user);

/* One function run as a coroutine. */
struct alk_run {
	lua_State *co;
	int ref;      /* keeps `co` alive */
	int nargs;    /* to hand over at the next resume */
	int nresults; /* on top of `co` when it finished */
	uint64_t end; /* monotonic ns: the run is over in all */
	uint64_t elapsed_ns;
	char error[256];
	char where[128];       /* the line of the return, or of the error */
	struct alk_wait *wait; /* NULL: a yield is an error */
	alk_policy_sandbox_push *push;
	void *user;
};

int alk_run_start(struct alk_policy_sandbox *box, struct alk_run *run, uint32_t total_ms,
		  alk_policy_sandbox_push *push, void *user);
/* 0 finished: the results are on top of run->co; -EIO it failed, see run->error; -EAGAIN it waits
 * for what run->wait says. */
int alk_run_resume(struct alk_policy_sandbox *box, struct alk_run *run, uint32_t resume_ms);
/* Note why a run that waits is not resumed, and where it stands. */
void alk_run_abort(struct alk_run *run, const char *why);
/* Let go of it and collect a little; everything after a failure for lack of memory. */
void alk_run_end(struct alk_policy_sandbox *box, struct alk_run *run);
/* Call `fn` with `user` as its one argument, errors caught: 0, or -EIO with the text in `error`. */
int alk_policy_sandbox_call(struct alk_policy_sandbox *box, lua_CFunction fn, void *user,
			    char *error, size_t size);
/* Compile the text and run it; what it returned is on top of run->co. Give back with
 * alk_run_end(). */
int alk_policy_sandbox_load(struct alk_policy_sandbox *box, struct alk_run *run, const char *text,
			    size_t len, uint32_t ms, struct alk_err *err);

/* Answers a wait at once, for tests: fills what is to be filled. */
typedef void alk_policy_stand_in(void *user, struct alk_wait *wait);

/* Put the libraries into the state. Raises. */
void alk_policy_sandbox_open_libs(lua_State *L);
/* Replace the table on top by one that reads the same and cannot be changed. */
void alk_policy_sandbox_freeze(lua_State *L);
/* Put find, match, gmatch and gsub into the table on top. */
void alk_pattern_open(lua_State *L);
/* `alknet`, as a global. */
void alk_policy_api_open(lua_State *L);
/* One line in the log, no more than ten a second. */
void alk_policy_api_log(lua_State *L, int level, const char *text);

/* What is behind `alknet`; each may raise. */
#define ALK_API(table_, name_, args_, fn_, text_) int fn_(lua_State *L);
#include "policy_api.def"
#undef ALK_API
/* The metatable of JSON documents under way. */
void alk_policy_codec_open(lua_State *L);
/* Forget the buckets and a dictionary of the state's own. */
void alk_policy_store_deinit(struct alk_policy_sandbox *box);

/* A question while it is in Lua. */
struct alk_question_run {
	struct alk_policy *policy;
	const struct alk_ask *ask;
	bool begun;
	struct alk_run run;
	struct alk_wait wait;
	struct alk_answer answer;
};
/* Begin, or go on. 0: `answer` is whole, logged and counted, and belongs to the caller; -EAGAIN: it
 * waits. */
int alk_question_step(struct alk_question_run *question);
/* It waits, and will not be resumed: `answer` says why. */
void alk_question_fail(struct alk_question_run *question, const char *why);
/* Forget one that waits, without an answer. */
void alk_question_drop(struct alk_question_run *question);

/* The arguments of a question; returns how many. Raises. */
int alk_policy_push_ask(lua_State *L, const struct alk_ask *ask);
/* Read the `n` values on top of `co`. Always fills `answer` (zeroed before); nonsense sets
 * `failed`. */
void alk_answer_read(lua_State *co, int n, const struct alk_ask *ask, struct alk_answer *answer);

uint64_t alk_policy_clock(void); /* monotonic nanoseconds */

/* Values of peers. Push one, which needs room for two values: false when there is null where
 * nothing can stand for it, or too much. Raises when the budget is spent. */
bool alk_policy_json_push(lua_State *L, const struct json_t *json);
/* Could it be pushed? */
bool alk_policy_json_fits(const struct json_t *json);
/* The value at an absolute index as a document; NULL with *why. Does not raise but for lack of
 * memory. */
struct json_t *alk_policy_json_take(lua_State *L, int index, const char **why);

/* policy_bus.c: what a script wants of the bus. */
#define ALK_POLICY_OPERATIONS_MAX 256
#define ALK_POLICY_SUBSCRIPTIONS_MAX 64
#define ALK_POLICY_EVENTS_MAX 4096		  /* that wait for on_event; more are lost */
#define ALK_POLICY_EVENTS_BYTES ((size_t)4 << 20) /* of them, as frames */
#define ALK_POLICY_INPUT_MAX 65536 /* bytes of an input or a payload that a script gets */
struct alk_policy_declared;
struct alk_policy_declared *alk_policy_declared_new(void);
bool alk_policy_declared_subscribes(const struct alk_policy_declared *declared);
/* Take everything back from the bus, drop what is under way. */
void alk_policy_bus_leave(struct alk_policy *policy);
void alk_policy_declared_free(struct alk_policy_declared **declared);

struct alk_policy {
	struct alk_loop *loop;
	char *name;
	bool scripted;
	struct alk_policy_limits limits;
	struct alk_policy_sandbox box;
	int function[ALK_QUESTION_COUNT]; /* references in the registry, or LUA_NOREF */
	struct alk_policy_asked *asked;	  /* under way */
	unsigned waiting;		  /* of those, how many wait */
	uint64_t generation;		  /* of the last wait */
	alk_policy_stand_in *stand_in;
	void *stand_in_user;
	struct alk_policy_declared *declared;
	uint64_t logged_at;  /* 0 = never */
	unsigned suppressed; /* errors not logged since */
};

#endif
