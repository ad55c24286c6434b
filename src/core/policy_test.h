/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_POLICY_TEST_H
#define ALK_POLICY_TEST_H

/* What policy_test.c (which tests there are, running them) and policy_test_ask.c (what they ask,
 * and what stands in for the world) share. */

#include "policy_private.h"

#define ALK_TEST_HOSTS 32
#define ALK_TEST_ADDRESSES 8

struct test_host {
	char name[256];
	size_t n; /* 0: does not resolve */
	char addr[ALK_TEST_ADDRESSES][46];
};

struct tester {
	struct alk_policy_sandbox box;
	struct alk_policy *policy;
	int tests; /* reference to a list of {name, fn} */
	int count;
	bool running;
	/* Given by the test that runs. */
	struct test_host host[ALK_TEST_HOSTS];
	size_t hosts;
};

/* `policy`, given_hosts and given_time, as globals. Raises. */
void alk_test_ask_open(lua_State *L, struct tester *tester);
/* Forget what was given. */
void alk_test_forget(struct tester *tester);

#endif
