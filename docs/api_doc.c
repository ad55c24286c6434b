/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* api_doc DOCUMENT SCRIPTS: prints docs/POLICY_API.md with what stands between "<!-- generated:
 * NAME -->" and "<!-- end of NAME -->" made anew: from the lists of questions and functions, the
 * limits in the code, and the example policies. Fails when a question of the engine has no heading.
 * `make docs` writes the file, `make check` compares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy_private.h"
#include "shared.h"

#define LINE_MAX_BYTES 4096

static const char *scripts;

/* What the list of questions in policy.h does not say. */
static const struct {
	const char *args, *when, *builtin;
} questions[ALK_QUESTION_COUNT] = {
	[ALK_QUESTION_LINK] = {"link", "a link is accepted, before SSH", "`\"allow\"`"},
	[ALK_QUESTION_AUTH] = {"request", "a key was proved", "`\"pass\"`"},
	[ALK_QUESTION_OPEN] = {"session, destination", "a channel is asked for", "see below"},
	[ALK_QUESTION_LISTEN] =
		{"session, bind", "a remote forward is asked for",
		 "`\"allow\"` on loopback addresses, and elsewhere with `gateway_ports`"},
	[ALK_QUESTION_PUBLISH] = {"session, envelope", "an event is published on the bus",
				  "`\"allow\"`"},
	[ALK_QUESTION_SUBSCRIBE] = {"session, topic", "a pattern is subscribed to", "`\"allow\"`"},
	[ALK_QUESTION_CALL] = {"session, operation", "an operation is called", "`\"allow\"`"},
	[ALK_QUESTION_EVENT] = {"envelope", "an event came that `alknet.subscribe` asked for",
				"nothing"},
	[ALK_QUESTION_CLOSE] = {"session, stats", "a session ended", "nothing"},
};

/* What may come with a word. */
static const char *word_goes_with(enum alk_question question, const char *word)
{
	if (strcmp(word, "deny") == 0)
		return " [, reason]";
	if (strcmp(word, "service") == 0)
		return ", name";
	if (strcmp(word, "forward") == 0)
		return " [, to]";
	if (strcmp(word, "allow") == 0 && question == ALK_QUESTION_AUTH)
		return " [, identity]";
	if (strcmp(word, "allow") == 0 && question == ALK_QUESTION_LISTEN)
		return " [, on]";
	return "";
}

static void question_print(enum alk_question question, const char *words)
{
	char list[64], *rest = list, *word;
	const char *between = "";

	printf("| `%s(%s)` | %s | ", alk_question_str(question), questions[question].args,
	       questions[question].when);
	snprintf(list, sizeof(list), "%s", words);
	while ((word = strsep(&rest, "|")) != NULL && word[0] != '\0') {
		printf("%s`\"%s\"%s`", between, word, word_goes_with(question, word));
		between = " \\| ";
	}
	printf("%s | %s |\n", words[0] != '\0' ? "" : "nothing", questions[question].builtin);
}

static void questions_print(void)
{
	puts("| function | asked when | answers | built-in answer |\n|---|---|---|---|");
#define X(id_, name_, words_) question_print(ALK_QUESTION_##id_, words_);
	ALK_QUESTIONS(X)
#undef X
}

static void functions_print(void)
{
	puts("| function | |\n|---|---|");
#define ALK_API(table_, name_, args_, fn_, text_)                                                  \
	printf("| `alknet%s%s.%s%s` | %s |\n", table_[0] ? "." : "", table_, #name_, args_, text_);
#include "policy_api.def"
#undef ALK_API
}

static void limits_print(void)
{
	puts("| what | limit |\n|---|---|");
	printf("| one resume of a question | %d ms of processor time |\n", ALK_POLICY_RESUME_MS);
	printf("| one question | %d s in all, waiting included |\n", ALK_POLICY_TOTAL_MS / 1000);
	printf("| waits | %d in a question; %d questions of a session wait at a time, %d of a worker; "
	       "`on_listen` and `on_close` cannot wait |\n",
	       ALK_POLICY_WAITS_MAX, ALK_POLICY_WAITING_SESSION, ALK_POLICY_WAITING_MAX);
	printf("| `alknet.resolve` | %d s, %d addresses of each family |\n",
	       ALK_POLICY_RESOLVE_MS / 1000, ALK_RESOLVER_ADDRESSES);
	printf("| the main chunk | %d s of processor time, %d s in all |\n",
	       ALK_POLICY_LOAD_MS / 1000, ALK_POLICY_TOTAL_MS / 1000);
	printf("| memory of a state | %d MiB; a string %d KiB; one block, such as the array of a table, "
	       "%d MiB |\n",
	       ALK_POLICY_MEMORY / (1024 * 1024), ALK_POLICY_STRING_MAX / 1024,
	       ALK_POLICY_BLOCK_MAX / (1024 * 1024));
	printf("| texts from peers | cut at %d bytes. `request.key` is never cut: it is `nil` when it is "
	       "longer than %d |\n",
	       ALK_POLICY_TEXT_MAX, ALK_POLICY_KEY_MAX);
	printf("| `string.find`, `match`, `gmatch`, `gsub` | text %d bytes, pattern %d bytes |\n",
	       ALK_POLICY_TEXT_MAX, ALK_POLICY_PATTERN_MAX);
	printf("| `table.insert`, `remove`, `sort`, `move`, `concat` | %d elements |\n",
	       ALK_POLICY_LIST_MAX);
	printf("| `alknet.shared` | keys %d bytes, texts %d bytes, about 8000 entries |\n",
	       ALK_SHARED_KEY_MAX, ALK_SHARED_TEXT_MAX);
	printf("| the script | %d MiB, as text |\n", ALK_POLICY_SCRIPT_MAX / (1024 * 1024));
}

static void example_print(const char *name, const char *title)
{
	char path[LINE_MAX_BYTES], line[LINE_MAX_BYTES];
	FILE *file;
	unsigned n = 0;

	snprintf(path, sizeof(path), "%s/examples/%s.lua", scripts, name);
	file = fopen(path, "re");
	if (!file) {
		perror(path);
		exit(1);
	}
	printf("\n### %s\n\n`scripts/examples/%s.lua`; its tests stand beside it.\n\n```lua\n",
	       title, name);
	while (fgets(line, sizeof(line), file))
		if (n++ > 0) /* the licence */
			fputs(line, stdout);
	puts("```");
	fclose(file);
}

static void examples_print(void)
{
	example_print("per_user", "Lists for each identity");
	example_print("deny_private", "No private networks");
	example_print("office_hours", "Office hours");
	example_print("read_only_bus", "A bus to listen to");
	example_print("presence", "A service of the bus");
	example_print("sidecar", "A sidecar that pins its upstreams");
}

static const struct {
	const char *name;
	void (*print)(void);
} sections[] = {
	{"questions", questions_print},
	{"functions", functions_print},
	{"limits", limits_print},
	{"examples", examples_print},
};

/* The place of the section that begins in this line, or -1. */
static int section_begins(const char *line)
{
	char mark[64];
	size_t i;

	for (i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		snprintf(mark, sizeof(mark), "<!-- generated: %s -->\n", sections[i].name);
		if (strcmp(line, mark) == 0)
			return (int)i;
	}
	return -1;
}

static bool skip_to_end(FILE *file, const char *name)
{
	char line[LINE_MAX_BYTES], mark[64];

	snprintf(mark, sizeof(mark), "<!-- end of %s -->\n", name);
	while (fgets(line, sizeof(line), file))
		if (strcmp(line, mark) == 0) {
			fputs(line, stdout);
			return true;
		}
	fprintf(stderr, "%s: has no end\n", name);
	return false;
}

static void headings_note(const char *line, bool seen[ALK_QUESTION_COUNT])
{
	size_t n;
	int q;

	for (q = 0; q < ALK_QUESTION_COUNT; q++) {
		n = strlen(alk_question_str((enum alk_question)q));
		if (strncmp(line, "### ", 4) == 0 &&
		    strncmp(line + 4, alk_question_str((enum alk_question)q), n) == 0)
			seen[q] = true;
	}
}

static int headings_check(const bool seen[ALK_QUESTION_COUNT])
{
	int q, missing = 0;

	for (q = 0; q < ALK_QUESTION_COUNT; q++)
		if (!seen[q]) {
			fprintf(stderr, "%s has no heading\n",
				alk_question_str((enum alk_question)q));
			missing = 1;
		}
	return missing;
}

int main(int argc, char **argv)
{
	bool seen[ALK_QUESTION_COUNT] = {false};
	char line[LINE_MAX_BYTES];
	FILE *file = argc == 3 ? fopen(argv[1], "re") : NULL;
	unsigned found = 0;
	int section;

	if (!file) {
		fprintf(stderr, "usage: api_doc DOCUMENT SCRIPTS\n");
		return 2;
	}
	scripts = argv[2];
	while (fgets(line, sizeof(line), file)) {
		fputs(line, stdout);
		headings_note(line, seen);
		section = section_begins(line);
		if (section < 0)
			continue;
		sections[section].print();
		found++;
		if (!skip_to_end(file, sections[section].name))
			return 1;
	}
	fclose(file);
	if (found != sizeof(sections) / sizeof(sections[0])) {
		fprintf(stderr, "%u sections are generated\n", found);
		return 1;
	}
	return headings_check(seen);
}
