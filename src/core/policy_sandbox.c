/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "policy_private.h"
#include "text.h"

/* Two clocks. A resume is measured in the thread's CPU time: a machine that is busy with others
 * must not deny people at random. Asking for it is a system call, so the monotonic clock, which is
 * not, is read first: CPU time never runs faster. All of a question is measured by the monotonic
 * clock, because somebody waits for the answer. */

#define SANDBOX_MAGIC 0x58424b41u
#define NS_PER_MS 1000000ull

/* Instructions between two looks at the clock. An instruction takes 5 ms at the worst (two strings
 * of the greatest length compared), and C functions are looked at when they are called. */
#define SANDBOX_STEP 16
#define SANDBOX_HOOKS (LUA_MASKCOUNT | LUA_MASKCALL | LUA_MASKRET)

static_assert(LUA_EXTRASPACE >= sizeof(void *),
	      "a state must have room for the pointer to its sandbox");

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t alk_policy_clock(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

struct alk_policy_sandbox *alk_policy_sandbox_of(lua_State *L)
{
	struct alk_policy_sandbox *box = *(struct alk_policy_sandbox **)lua_getextraspace(L);

	if (!box || box->magic != SANDBOX_MAGIC)
		abort();
	return box;
}

static bool alloc_fits(const struct alk_policy_sandbox *box, bool fresh, size_t kind, size_t old,
		       size_t size)
{
	if (size > ALK_POLICY_BLOCK_MAX || box->used - old + size > box->cap)
		return false;
	return !(fresh && kind == LUA_TSTRING && size > ALK_POLICY_STRING_MAX + 64);
}

/* For a new block Lua says in `osize` what kind of object it is for. */
static void *sandbox_alloc(void *user, void *block, size_t osize, size_t nsize)
{
	struct alk_policy_sandbox *box = user;
	size_t old = block ? osize : 0;
	void *fresh = NULL;

	if (nsize == 0) {
		free(block);
		box->used -= old;
		return NULL;
	}
	if (nsize <= old || alloc_fits(box, !block, osize, old, nsize))
		fresh = realloc(block, nsize);
	if (!fresh && nsize <= old)
		return block; /* Lua relies on shrinking */
	if (!fresh) {
		box->refused++;
		return NULL;
	}
	if (nsize > old)
		box->refused = 0;
	box->used += nsize - old;
	return fresh;
}

static const char *stop_reason(struct alk_policy_sandbox *box)
{
	uint64_t now, cpu;

	if (box->refused >= 2)
		return "used more memory than it may";
	now = alk_policy_clock();
	if (now < box->look_at)
		return NULL;
	if (now >= box->end)
		return "took more time than it may";
	cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	if (cpu >= box->cpu_end)
		return "took more processor time than it may";
	box->look_at = now + (box->cpu_end - cpu);
	if (box->look_at > box->end)
		box->look_at = box->end;
	return NULL;
}

static void sandbox_hook(lua_State *L, lua_Debug *ar);

/* From the first time on the hook comes at every instruction, so that no pcall can
 * go on for long. */
bool alk_policy_sandbox_is_over(lua_State *L)
{
	struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);

	if (!box->stopped)
		box->stopped = stop_reason(box);
	if (box->stopped)
		lua_sethook(L, sandbox_hook, LUA_MASKCOUNT | LUA_MASKCALL, 1);
	return box->stopped != NULL;
}

static void sandbox_raise(lua_State *L)
{
	lua_pushstring(L, alk_policy_sandbox_of(L)->stopped);
	lua_error(L);
}

void alk_policy_sandbox_poll(lua_State *L)
{
	if (alk_policy_sandbox_is_over(L))
		sandbox_raise(L);
}

static void where_note(lua_State *L, lua_Debug *ar, char *where, size_t size)
{
	if (!lua_getinfo(L, "Sl", ar))
		return;
	if (ar->currentline > 0)
		snprintf(where, size, "%s:%d", ar->short_src, ar->currentline);
	else if (ar->linedefined > 0)
		snprintf(where, size, "%s:%d", ar->short_src, ar->linedefined);
}

static void sandbox_hook(lua_State *L, lua_Debug *ar)
{
	struct alk_policy_sandbox *box = alk_policy_sandbox_of(L);
	lua_Debug caller;

	if (ar->event == LUA_HOOKRET) {
		if (L == box->asked && !lua_getstack(L, 1, &caller))
			where_note(L, ar, box->where, sizeof(box->where));
		return;
	}
	if (!alk_policy_sandbox_is_over(L))
		return;
	/* A yield leaves all at once. An error stops at every pcall, and each costs Lua a walk over
	 * the whole stack: 100 000 of them, one inside the other, took 6 s. */
	if (ar->event == LUA_HOOKCOUNT && lua_isyieldable(L))
		lua_yield(L, 0);
	else
		sandbox_raise(L);
}

/* The stack of a coroutine that failed is still as it was. */
static void where_failed(lua_State *co, char *where, size_t size)
{
	lua_Debug ar;
	int level;

	for (level = 0; level < 50 && lua_getstack(co, level, &ar); level++) {
		if (!lua_getinfo(co, "Sl", &ar) || ar.currentline <= 0)
			continue;
		snprintf(where, size, "%s:%d", ar.short_src, ar.currentline);
		return;
	}
}

/* No metamethod is called: the object is the script's. */
static void error_text(lua_State *L, int index, char *text, size_t size)
{
	if (lua_type(L, index) == LUA_TSTRING)
		snprintf(text, size, "%s", lua_tostring(L, index));
	else
		snprintf(text, size, "the error is a %s, not a text", luaL_typename(L, index));
}

int alk_policy_sandbox_call(struct alk_policy_sandbox *box, lua_CFunction fn, void *user,
			    char *error, size_t size)
{
	int rc;

	if (!lua_checkstack(box->L, 8)) {
		snprintf(error, size, "not enough memory");
		return -EIO;
	}
	lua_pushcfunction(box->L, fn);
	lua_pushlightuserdata(box->L, user);
	rc = lua_pcall(box->L, 1, 0, 0);
	if (rc == LUA_OK)
		return 0;
	error_text(box->L, -1, error, size);
	lua_pop(box->L, 1);
	return -EIO;
}

static int run_prepare(lua_State *L)
{
	struct alk_run *run = lua_touserdata(L, 1);
	int n;

	lua_settop(L, 0);
	run->co = lua_newthread(L);
	run->ref = luaL_ref(L, LUA_REGISTRYINDEX);
	n = run->push(L, run->user);
	if (!lua_checkstack(run->co, n))
		return luaL_error(L, "not enough memory");
	lua_xmove(L, run->co, n);
	run->nargs = n - 1;
	return 0;
}

static void budget_begin(struct alk_policy_sandbox *box, const struct alk_run *run,
			 uint32_t resume_ms)
{
	uint64_t ns = (resume_ms ? resume_ms : ALK_POLICY_RESUME_MS) * NS_PER_MS;
	uint64_t now = alk_policy_clock();

	box->cpu_end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ns;
	box->end = run->end;
	box->look_at = now + ns < box->end ? now + ns : box->end;
	box->refused = 0;
	box->stopped = NULL;
	box->where[0] = '\0';
	box->asked = run->co;
	box->wait = run->wait;
	if (run->wait)
		run->wait->kind = ALK_WAIT_NONE;
}

int alk_run_start(struct alk_policy_sandbox *box, struct alk_run *run, uint32_t total_ms,
		  alk_policy_sandbox_push *push, void *user)
{
	memset(run, 0, sizeof(*run));
	run->ref = LUA_NOREF;
	run->push = push;
	run->user = user;
	run->end = alk_policy_clock() + (total_ms ? total_ms : ALK_POLICY_TOTAL_MS) * NS_PER_MS;
	/* What is handed over may be a peer's document, and looks at the clock. */
	budget_begin(box, run, 0);
	return alk_policy_sandbox_call(box, run_prepare, run, run->error, sizeof(run->error));
}

static int run_result(struct alk_policy_sandbox *box, struct alk_run *run, int rc)
{
	if (rc == LUA_YIELD && !box->stopped && run->wait && run->wait->kind != ALK_WAIT_NONE)
		return -EAGAIN;
	/* A stop that the script swallowed in its last instructions is still one. */
	if (!box->stopped && box->refused >= 2)
		box->stopped = "used more memory than it may";
	if (!box->stopped && rc == LUA_OK)
		return 0;
	where_failed(run->co, run->where, sizeof(run->where));
	if (rc == LUA_ERRMEM)
		box->refused = 2;
	if (box->stopped)
		snprintf(run->error, sizeof(run->error), "%s", box->stopped);
	else if (rc == LUA_YIELD)
		snprintf(run->error, sizeof(run->error), "the script yielded");
	else
		error_text(run->co, -1, run->error, sizeof(run->error));
	return -EIO;
}

int alk_run_resume(struct alk_policy_sandbox *box, struct alk_run *run, uint32_t resume_ms)
{
	uint64_t begin = alk_policy_clock();
	int rc;

	budget_begin(box, run, resume_ms);
	lua_sethook(run->co, sandbox_hook, SANDBOX_HOOKS, SANDBOX_STEP);
	rc = lua_resume(run->co, box->L, run->nargs, &run->nresults);
	run->elapsed_ns += alk_policy_clock() - begin;
	box->asked = NULL;
	box->wait = NULL;
	run->nargs = 0;
	snprintf(run->where, sizeof(run->where), "%s", box->where);
	return run_result(box, run, rc);
}

void alk_run_abort(struct alk_run *run, const char *why)
{
	where_failed(run->co, run->where, sizeof(run->where));
	snprintf(run->error, sizeof(run->error), "%s", why);
}

static int run_release(lua_State *L)
{
	struct alk_run *run = lua_touserdata(L, 1);

	/* No lua_resetthread(): it would run the script's __close, with hooks off after a
	 * timeout. */
	if (lua_status(run->co) == LUA_OK)
		lua_settop(run->co, 0);
	luaL_unref(L, LUA_REGISTRYINDEX, run->ref);
	return 0;
}

void alk_run_end(struct alk_policy_sandbox *box, struct alk_run *run)
{
	char error[64];

	if (run->co)
		alk_policy_sandbox_call(box, run_release, run, error, sizeof(error));
	run->co = NULL;
	run->ref = LUA_NOREF;
	if (box->refused >= 2)
		lua_gc(box->L, LUA_GCCOLLECT);
	else
		lua_gc(box->L, LUA_GCSTEP, 4);
	box->refused = 0;
}

struct script {
	const struct alk_policy_sandbox *box;
	const char *text;
	size_t len;
	char shown[LUA_IDSIZE]; /* the script's name in Lua's messages */
	bool compiled;
};

/* Lua shows no more of a name than this; the end tells more than the beginning. */
static void name_show(const char *name, char out[LUA_IDSIZE])
{
	size_t n = strlen(name), most = LUA_IDSIZE - 1;

	if (n <= most)
		snprintf(out, LUA_IDSIZE, "%s", name);
	else
		snprintf(out, LUA_IDSIZE, "...%s", name + n - (most - 3));
}

static int script_push(lua_State *L, void *user)
{
	struct script *script = user;
	char name[LUA_IDSIZE + 1];

	snprintf(name, sizeof(name), "=%s", script->shown);
	if (luaL_loadbufferx(L, script->text, script->len, name, "t") != LUA_OK)
		return lua_error(L);
	script->compiled = true;
	return 1;
}

/* An error that names a line of the script gets the line, too. */
static int script_quote(struct alk_err *err, int rc, const struct script *script)
{
	const char *name = script->box->name, *at = script->text, *end = at + script->len, *stop;
	size_t used = err != NULL ? strlen(err->text) : 0, n = strlen(name);
	char shown[160], *after;
	unsigned long line;

	if (err == NULL || strncmp(err->text, name, n) != 0 || err->text[n] != ':')
		return rc;
	line = strtoul(err->text + n + 1, &after, 10);
	if (line == 0 || *after != ':')
		return rc;
	for (; line > 1 && (at = memchr(at, '\n', (size_t)(end - at))) != NULL; line--)
		at++;
	if (at == NULL)
		return rc;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	stop = memchr(at, '\n', (size_t)(end - at));
	n = (size_t)((stop != NULL ? stop : end) - at);
	alk_text_escape(at, n < 100 ? n : 100, shown, sizeof(shown));
	if (n > 0)
		snprintf(err->text + used, sizeof(err->text) - used, " in: %s", shown);
	return rc;
}

/* What stands behind the script's name, ":LINE...", when the text begins with it; else NULL. */
static const char *place_after_name(const struct script *script, const char *text)
{
	size_t n = strlen(script->shown);

	return strncmp(text, script->shown, n) == 0 && text[n] == ':' ? text + n : NULL;
}

int alk_policy_sandbox_load(struct alk_policy_sandbox *box, struct alk_run *run, const char *text,
			    size_t len, uint32_t ms, struct alk_err *err)
{
	struct script script = {.box = box, .text = text, .len = len};
	const char *place;
	bool stopped;
	int rc;

	memset(run, 0, sizeof(*run));
	if (len > ALK_POLICY_SCRIPT_MAX)
		return alk_err_set(err, -EINVAL, "%s: longer than %d bytes", box->name,
				   ALK_POLICY_SCRIPT_MAX);
	name_show(box->name, script.shown);
	rc = alk_run_start(box, run, 0, script_push, &script);
	if (rc == 0)
		rc = alk_run_resume(box, run, ms);
	if (rc == 0)
		return 0;
	stopped = box->stopped && script.compiled;
	place = stopped ? NULL : place_after_name(&script, run->error);
	if (place) {
		rc = alk_err_set(err, -EINVAL, "%s%s", box->name, place);
	} else {
		place = place_after_name(&script, run->where);
		rc = alk_err_set(err, -EINVAL, "%s%s: %s", box->name, place ? place : "",
				 run->error);
	}
	return stopped ? rc : script_quote(err, rc, &script);
}

static int sandbox_open(lua_State *L)
{
	alk_policy_sandbox_open_libs(L);
	alk_policy_api_open(L);
	return 0;
}

int alk_policy_sandbox_init(struct alk_policy_sandbox *box, const char *name, size_t cap,
			    struct alk_err *err)
{
	char text[128];

	memset(box, 0, sizeof(*box));
	box->magic = SANDBOX_MAGIC;
	box->name = name;
	box->cap = cap ? cap : ALK_POLICY_MEMORY;
	box->L = lua_newstate(sandbox_alloc, box);
	if (!box->L)
		return alk_err_set(err, -ENOMEM, "%s: not enough memory for a Lua state", name);
	*(struct alk_policy_sandbox **)lua_getextraspace(box->L) = box;
	if (alk_policy_sandbox_call(box, sandbox_open, NULL, text, sizeof(text)) < 0) {
		alk_policy_sandbox_deinit(box);
		return alk_err_set(err, -ENOMEM, "%s: %s", name, text);
	}
	return 0;
}

void alk_policy_sandbox_deinit(struct alk_policy_sandbox *box)
{
	if (box->L)
		lua_close(box->L);
	box->L = NULL;
	alk_policy_store_deinit(box);
	box->magic = 0;
}
