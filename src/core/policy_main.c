/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cmdline.h"
#include "json_text.h"
#include "main.h"
#include "policy_eval.h"
#include "text.h"

/* `alknet policy eval` and `alknet policy test`. */

#define FILE_MAX_BYTES (1024 * 1024)
#define FILES_MAX 1024
#define DEPTH_MAX 16

const struct alk_flag alk_policy_flags[] = {
	{"config", "FILE", "the configuration whose policy is asked (-c)", "eval"},
	{"policy", "FILE", "the policy that is asked; without either the built-in answers", "eval"},
	{"user", "NAME", "the SSH user name", "eval"},
	{"key", "FILE", "the public key or certificate, a .pub file", "eval"},
	{"key-fingerprint", "SHA256:...", "in place of --key", "eval"},
	{"from", "ADDR[:PORT]", "where the peer connects from", "eval"},
	{"transport", "NAME", "over what (default tcp)", "eval"},
	{"sni", "NAME", "the name that a TLS peer asked for", "eval"},
	{"id", "ID", "who it is, in place of what on_auth says", "eval"},
	{"scope", "SCOPE", "a scope of that identity; may be given several times", "eval"},
	{"to", "HOST:PORT", "the destination, or a unix path", "eval"},
	{"listen", "[HOST]:PORT", "what a remote forward would listen on", "eval"},
	{"gateway-ports", NULL, "as with that option of serve; -c takes it from the configuration",
	 "eval"},
	{"question", "NAME",
	 "ask this one: on_link, on_auth, on_open or on_listen; may be given several times. Without it "
	 "all that there is something to ask about",
	 "eval"},
	{"json", NULL, "print JSON", NULL},
	{"help", NULL, "print this (-h)", NULL},
	{0},
};

struct policy_line {
	const char *config, *policy, *key;
	json_t *params;
	bool json, help, test;
};

/* ---- the command line ---- */

static int line_list(json_t *params, const char *key, const char *text)
{
	json_t *list = json_object_get(params, key);

	if (!list) {
		list = json_array();
		json_object_set_new(params, key, list);
	}
	return json_array_append_new(list, json_string(text));
}

static int line_set(void *user, const char *name, const char *text, struct alk_err *err)
{
	struct policy_line *line = user;
	char key[32], *c;
	int rc;

	if (strcmp(name, "json") == 0 || strcmp(name, "help") == 0) {
		*(name[0] == 'j' ? &line->json : &line->help) = true;
		return 0;
	}
	if (line->test)
		return alk_err_set(err, -EINVAL,
				   "--%s: is a flag of policy eval, not of policy test", name);
	if (strcmp(name, "gateway-ports") == 0)
		return json_object_set_new(line->params, "gateway_ports", json_true());
	if (strcmp(name, "config") == 0 || strcmp(name, "policy") == 0 ||
	    strcmp(name, "key") == 0) {
		*(name[0] == 'c'   ? &line->config
		  : name[0] == 'p' ? &line->policy
				   : &line->key) = text;
		return 0;
	}
	snprintf(key, sizeof(key), "%s", name);
	for (c = key; *c; c++)
		*c = *c == '-' ? '_' : *c;
	if (strcmp(key, "scope") == 0)
		rc = line_list(line->params, "scopes", text);
	else if (strcmp(key, "question") == 0)
		rc = line_list(line->params, "questions", text);
	else
		rc = json_object_set_new(line->params, key, json_string(text));
	return rc == 0 ? 0 : alk_err_set(err, -EINVAL, "--%s: is not UTF-8", name);
}

/* ---- eval ---- */

static int file_read(const char *path, char **text, size_t *len, struct alk_err *err)
{
	FILE *file = fopen(path, "re");
	int rc = 0;

	*text = NULL;
	if (!file)
		return alk_err_set(err, -errno, "%s: %m", path);
	*text = malloc(FILE_MAX_BYTES + 1);
	*len = *text ? fread(*text, 1, FILE_MAX_BYTES + 1, file) : 0;
	if (!*text)
		rc = alk_err_set(err, -ENOMEM, "out of memory");
	else if (ferror(file))
		rc = alk_err_set(err, -EIO, "%s: cannot be read", path);
	else if (*len > FILE_MAX_BYTES)
		rc = alk_err_set(err, -EFBIG, "%s: longer than 1 MiB", path);
	else
		(*text)[*len] = '\0';
	fclose(file);
	return rc;
}

static struct alk_conf *conf_read(const char *path, struct alk_err *err)
{
	struct alk_conf *conf = alk_conf_new(ALK_ROLE_SUPERVISOR);

	if (!conf)
		alk_err_set(err, -ENOMEM, "out of memory");
	else if (alk_conf_load_file(conf, path, err) < 0 || alk_conf_finish(conf, err) < 0 ||
		 alk_conf_read_files(conf, err) < 0)
		alk_conf_free(&conf);
	return conf;
}

static struct alk_policy *policy_load(const struct policy_line *line, struct alk_loop *loop,
				      struct alk_err *err)
{
	struct alk_policy *policy = NULL;
	struct alk_conf *conf = NULL;
	const char *name = line->policy, *text = NULL;
	char *read = NULL;
	size_t len = 0;

	if (line->policy && line->config) {
		alk_err_set(err, -EINVAL, "--policy: goes with no -c");
		return NULL;
	}
	if (line->policy) {
		if (file_read(line->policy, &read, &len, err) < 0)
			goto out;
		text = read;
	} else if (line->config) {
		conf = conf_read(line->config, err);
		if (!conf)
			goto out;
		name = alk_options_str(alk_conf_values(conf), "policy");
		text = name ? alk_conf_file(conf, "policy", 0, &len) : NULL;
		if (alk_options_bool(alk_conf_values(conf), "gateway_ports"))
			json_object_set_new(line->params, "gateway_ports", json_true());
	}
	policy = alk_policy_new(loop, name ? name : "built-in", text, len, NULL, err);
out:
	free(read);
	alk_conf_free(&conf);
	return policy;
}

static int key_load(struct policy_line *line, struct alk_err *err)
{
	char *text;
	size_t len;
	int rc;

	if (!line->key)
		return 0;
	rc = file_read(line->key, &text, &len, err);
	if (rc == 0 && json_object_set_new(line->params, "key", json_string(text)) < 0)
		rc = alk_err_set(err, -EINVAL, "--key: %s: is no public key", line->key);
	free(text);
	return rc;
}

static const char *get(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void escaped_print(const char *text)
{
	char shown[1024];

	alk_text_escape(text, strlen(text), shown, sizeof(shown));
	fputs(shown, stdout);
}

static void list_print(const char *name, const json_t *list)
{
	const json_t *text;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	printf(", %s", name);
	json_array_foreach(list, i, text)
	{
		putchar(' ');
		escaped_print(json_string_value(text));
	}
}

static void place_print(const char *label, const json_t *place)
{
	static const char *const more[] = {"via", "bind"};
	size_t i;

	if (!place)
		return;
	printf("  %s ", label);
	if (*get(place, "path")) {
		escaped_print(get(place, "path"));
	} else {
		escaped_print(*get(place, "host") ? get(place, "host") : "every address");
		printf(" port %lld", json_integer_value(json_object_get(place, "port")));
	}
	for (i = 0; i < sizeof(more) / sizeof(more[0]); i++)
		if (*get(place, more[i])) {
			printf(" %s ", more[i]);
			escaped_print(get(place, more[i]));
		}
	if (json_is_true(json_object_get(place, "proxy_protocol")))
		fputs(" with a PROXY header", stdout);
	putchar('\n');
}

static void answer_print(const json_t *answer)
{
	const json_t *identity = json_object_get(answer, "identity");

	printf("%s: %s%s", get(answer, "question"), get(answer, "word"),
	       json_is_true(json_object_get(answer, "failed")) ? ", because the script failed"
							       : "");
	if (*get(answer, "service"))
		printf(" %s", get(answer, "service"));
	if (*get(answer, "reason")) {
		fputs(": ", stdout);
		escaped_print(get(answer, "reason"));
	}
	putchar('\n');
	place_print("to", json_object_get(answer, "forward"));
	place_print("on", json_object_get(answer, "listen"));
	if (identity) {
		fputs("  identity ", stdout);
		escaped_print(*get(identity, "id") ? get(identity, "id") : "(nobody)");
		list_print("scopes", json_object_get(identity, "scopes"));
		list_print("resources", json_object_get(identity, "resources"));
		putchar('\n');
	}
	fputs("  decided at ", stdout);
	escaped_print(get(answer, "where"));
	printf(", in %.3f ms\n",
	       (double)json_integer_value(json_object_get(answer, "elapsed_us")) / 1000);
}

struct evaluation {
	struct alk_loop *loop;
	json_t *result;
};

static void on_result(void *user, json_t *result)
{
	struct evaluation *evaluation = user;

	evaluation->result = result;
	alk_loop_stop(evaluation->loop);
}

static void json_print(const json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
}

static int eval_print(const struct policy_line *line, const json_t *result)
{
	const json_t *answer;
	size_t i;

	if (!result)
		return 2;
	if (line->json)
		json_print(result);
	else
		json_array_foreach(json_object_get(result, "answers"), i, answer)
			answer_print(answer);
	return json_is_true(json_object_get(result, "allowed")) ? 0 : 1;
}

static int eval_main(struct policy_line *line, struct alk_err *err)
{
	struct evaluation evaluation = {.loop = alk_loop_new(err)};
	struct alk_policy *policy = NULL;
	int status = -EINVAL;

	if (evaluation.loop && key_load(line, err) == 0)
		policy = policy_load(line, evaluation.loop, err);
	if (policy && alk_policy_eval_start(policy, line->params, on_result, &evaluation, err)) {
		alk_loop_run(evaluation.loop);
		status = eval_print(line, evaluation.result);
	}
	json_decref(evaluation.result);
	alk_policy_free(&policy);
	alk_loop_free(&evaluation.loop);
	return status;
}

/* ---- test ---- */

struct testing {
	char *file[FILES_MAX];
	size_t files;
	const char *now;
	json_t *list; /* NULL: TAP */
	int passed, failed, wrong;
};

static void on_test(void *user, int n, int of, const char *name, const char *why)
{
	struct testing *testing = user;
	json_t *one;

	if (why)
		testing->failed++;
	else
		testing->passed++;
	if (testing->list) {
		one = json_pack("{s:o, s:o, s:b}", "file", alk_json_text(testing->now), "test",
				alk_json_text(name), "passed", why == NULL);
		if (why)
			json_object_set_new(one, "why", alk_json_text(why));
		json_array_append_new(testing->list, one);
		return;
	}
	if (n == 1)
		printf("# %s: %d tests\n", testing->now, of);
	printf("%s %d - %s\n", why ? "not ok" : "ok", testing->passed + testing->failed, name);
	if (why)
		printf("# %s\n", why);
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);

	return len > n && strcmp(text + len - n, end) == 0;
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* NAME_test.lua anywhere below, in order; links are not followed. */
static int files_find(struct testing *testing, const char *dir, int depth, struct alk_err *err)
{
	struct dirent **list;
	struct stat st;
	char path[4096];
	int n = scandir(dir, &list, visible, alphasort), i, rc = 0;

	if (n < 0)
		return alk_err_set(err, -errno, "%s: %m", dir);
	for (i = 0; i < n; i++) {
		int len = snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);

		free(list[i]);
		if (rc < 0 || len >= (int)sizeof(path) || lstat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
			rc = files_find(testing, path, depth + 1, err);
		else if (!S_ISREG(st.st_mode) || !ends_with(path, "_test.lua"))
			continue;
		else if (testing->files == FILES_MAX)
			rc = alk_err_set(err, -E2BIG, "%s: more than %d tests", dir, FILES_MAX);
		else if ((testing->file[testing->files] = strdup(path)))
			testing->files++;
		else
			rc = alk_err_set(err, -ENOMEM, "out of memory");
	}
	free(list);
	return rc;
}

/* NAME.lua, NAME_test.lua, or a directory. */
static int files_take(struct testing *testing, const char *path, struct alk_err *err)
{
	struct stat st;
	int rc;

	if (stat(path, &st) < 0)
		return alk_err_set(err, -errno, "%s: %m", path);
	if (S_ISDIR(st.st_mode)) {
		rc = files_find(testing, path, 0, err);
		if (rc == 0 && testing->files == 0)
			rc = alk_err_set(err, -ENOENT, "%s: has no NAME_test.lua", path);
		return rc;
	}
	if (testing->files == FILES_MAX)
		return alk_err_set(err, -E2BIG, "more than %d tests", FILES_MAX);
	testing->file[testing->files] = strdup(path);
	return testing->file[testing->files++] ? 0 : alk_err_set(err, -ENOMEM, "out of memory");
}

/* A file that cannot be tested does not keep the others from it. */
static void file_test(struct testing *testing, char *path)
{
	struct alk_err err = {.text = ""};

	if (ends_with(path, "_test.lua"))
		memcpy(path + strlen(path) - strlen("_test.lua"), ".lua", sizeof(".lua"));
	testing->now = path;
	if (alk_policy_test_each(path, on_test, testing, &err) >= 0)
		return;
	fprintf(stderr, "alknet: %s\n", err.text);
	testing->wrong++;
}

static int test_main(const struct policy_line *line, int argc, char **argv, struct alk_err *err)
{
	struct testing testing = {.list = line->json ? json_array() : NULL};
	json_t *result;
	size_t i;
	int rc = 0, n;

	if (argc == 0)
		rc = alk_err_set(err, -EINVAL, "policy test needs a directory or a file");
	for (n = 0; rc == 0 && n < argc; n++)
		rc = files_take(&testing, argv[n], err);
	for (i = 0; rc == 0 && i < testing.files; i++)
		file_test(&testing, testing.file[i]);
	if (rc == 0 && line->json) {
		result = json_pack("{s:i, s:i, s:O}", "passed", testing.passed, "failed",
				   testing.failed, "tests", testing.list);
		json_print(result);
		json_decref(result);
	} else if (rc == 0) {
		printf("1..%d\n# %d passed, %d failed\n", testing.passed + testing.failed,
		       testing.passed, testing.failed);
	}
	for (i = 0; i < testing.files; i++)
		free(testing.file[i]);
	json_decref(testing.list);
	if (rc < 0)
		return rc;
	return testing.wrong ? 2 : testing.failed ? 1 : 0;
}

int alk_main_policy(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct policy_line line = {.params = json_object(), .test = strcmp(what, "test") == 0};
	struct alk_err err = {.text = "out of memory"};
	int rest, status = -EINVAL;

	if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0) {
		line.help = true;
	} else if (!line.test && strcmp(what, "eval") != 0) {
		alk_err_set(&err, -EINVAL, "policy: say eval or test (alknet policy --help)");
		json_decref(line.params);
		return alk_main_fail(2, &err);
	}
	rest = line.help ? 0
			 : alk_cmdline_read_flags(alk_policy_flags, "policy", argc - 1, argv + 1,
						  line_set, &line, &err);
	if (rest >= 0 && line.help)
		status = alk_cmdline_help("policy", stdout) < 0 ? 1 : 0;
	else if (rest >= 0 && line.test)
		status = test_main(&line, argc - 1 - rest, argv + 1 + rest, &err);
	else if (rest >= 0 && rest < argc - 1)
		alk_err_set(&err, -EINVAL, "policy eval takes flags only");
	else if (rest >= 0)
		status = eval_main(&line, &err);
	json_decref(line.params);
	if (status < 0)
		return alk_main_fail(2, &err);
	return fflush(stdout) == 0 ? status : 1;
}
