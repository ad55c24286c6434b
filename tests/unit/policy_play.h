/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef POLICY_PLAY_H
#define POLICY_PLAY_H

/* Policies of one line, and questions to put to them. Not every test uses all of it. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "board.h"
#include "log_private.h"
#include "policy.h"

__attribute__((unused)) static struct alk_link link_tls = {
	.fd = -1,
	.transport = "tls",
	.remote_addr = "203.0.113.50",
	.remote_port = 50000,
	.local_addr = "192.0.2.2",
	.local_port = 443,
	.sni = "alk.example.com",
	.alpn = "ssh",
};
__attribute__((unused)) static struct alk_destination to_web = {
	.host = "www.example.com",
	.port = 443,
	.originator = "127.0.0.1",
	.originator_port = 41000,
};

/* A test is about the script, not about how fast valgrind is. */
__attribute__((unused)) static const struct alk_policy_limits patient = {.resume_ms = 1000};

__attribute__((unused)) static struct alk_policy *policy_make(const char *text)
{
	struct alk_err err = {.text = ""};
	struct alk_policy *policy;

	policy = alk_policy_new(NULL, "test.lua", text, strlen(text), &patient, &err);
	if (!policy)
		fail_msg("%s", err.text);
	return policy;
}

__attribute__((unused)) static struct alk_ask ask_make(enum alk_question question)
{
	return (struct alk_ask){
		.question = question,
		.session = 7,
		.link = &link_tls,
		.user = "alice",
		.key_type = "ssh-ed25519",
		.key_fingerprint = "SHA256:abc",
		.key = "AAAA",
		.to = &to_web,
		.duration = 12.5,
		.reason = "closed by peer",
	};
}

/* What a whole script answers. */
__attribute__((unused)) static struct alk_answer answer_of(const char *text,
							   const struct alk_ask *ask)
{
	struct alk_policy *policy = policy_make(text);
	struct alk_answer answer;

	alk_policy_ask_now(policy, ask, &answer);
	alk_policy_free(&policy);
	return answer;
}

/* What the body of one function answers. */
__attribute__((unused)) static struct alk_answer body_answer(enum alk_question question,
							     const char *body)
{
	static const char *const names[] = {
#define X(id_, name_, words_) name_,
		ALK_QUESTIONS(X)
#undef X
	};
	struct alk_ask ask = ask_make(question);
	char text[4096];

	snprintf(text, sizeof(text), "return { %s = function(a, b) %s end }", names[question],
		 body);
	return answer_of(text, &ask);
}

/* The body checks what it was given with assert() and allows. */
__attribute__((unused)) static void assert_body(enum alk_question question, const char *body)
{
	struct alk_answer answer = body_answer(question, body);

	if (answer.failed)
		fail_msg("%s", answer.reason);
	assert_int_not_equal(answer.verdict, ALK_VERDICT_DENY);
	alk_grant_unref(&answer.grant);
}

__attribute__((unused)) static uint64_t metric(enum alk_metric m)
{
	return atomic_load(&alk_board_self->metric[m]);
}

#endif
