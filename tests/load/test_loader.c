/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* THREATS 48: what is no good plugin is refused with a sentence, and the rest runs. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "load.h"
#include "loader.h"

#define TEXT_OF(x_) #x_
#define TEXT(x_) TEXT_OF(x_)
#define MINOR TEXT(ALK_ABI_MINOR)
#define ABI TEXT(ALK_ABI_MAJOR) "." MINOR

struct bench {
	struct alk_loop *loop;
	struct alk_conf *conf;
	struct alk_loader *loader;
	char dir[64];
};

/* ---- files ---- */

static void built(const char *name, char *path, size_t size)
{
	const char *dir = getenv("ALKNET_BUILDDIR");

	snprintf(path, size, "%s/tests/load/.libs/%s.so", dir != NULL ? dir : ".", name);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0755), 0);
}

/* The plugin `name` that was built, as NAME.so in the directory, up to `limit` bytes of it. */
static void put(struct bench *b, const char *name, const char *as, size_t limit)
{
	static char bytes[4 << 20];
	char from[4096], to[128];
	size_t n;
	FILE *f;

	built(name, from, sizeof(from));
	f = fopen(from, "re");
	if (f == NULL)
		fail_msg("%s: %s", from, strerror(errno));
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	assert_true(n > 0 && n < sizeof(bytes));
	snprintf(to, sizeof(to), "%s/%s.so", b->dir, as);
	write_file(to, bytes, n < limit ? n : limit);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	snprintf(b->dir, sizeof(b->dir), "/tmp/alk-load-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	assert_int_equal(chmod(b->dir, 0755), 0);
	b->loop = alk_loop_new(NULL);
	assert_non_null(b->loop);
	b->conf = alk_conf_new(ALK_ROLE_SUPERVISOR);
	assert_non_null(b->conf);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	char command[128];

	alk_loader_free(&b->loader);
	assert_null(b->loader);
	alk_conf_free(&b->conf);
	alk_loop_free(&b->loop);
	snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	assert_int_equal(system(command), 0);
	free(b);
	return 0;
}

static void refused(const char *path, const char *why)
{
	struct alk_err err = {""};

	if (alk_loader_check_file(path, &err) == 0)
		fail_msg("%s was taken; it should have been refused: %s", path, why);
	if (strstr(err.text, why) == NULL)
		fail_msg("%s: \"%s\" does not say \"%s\"", path, err.text, why);
}

/* ---- one file ---- */

static void test_bad_records(void **state)
{
	static const struct {
		const char *name, *why;
	} bad[] = {
		{"magic",
		 "its magic number is 0x12345678 instead of 0x6b6e6c61: it is no alknet plugin"},
		{"major", "it was made for plugin ABI 2." MINOR ", this program has " ABI
			  ": build it again"},
		{"minor", ", this program has " ABI ": update alknet"},
		{"small", "its record says it has "},
		{"big", "its record says it has "},
		{"stub", "its alk_plugin has 4 bytes, which is no plugin record"},
		{"name", "it calls itself \"other\": a plugin has the name of its file"},
		{"noname", "it calls itself \"\": a plugin has the name of its file"},
		{"noversion", "it has no version"},
		{"nosymbol", "has no symbol alk_plugin: it is no alknet plugin"},
		{"kind", "it is of kind 99, which this program does not know"},
		{"noops", "it has neither of the operations listen and dial"},
		{"noopen", "it lacks the operation open"},
		{"short", "it lacks the operation open"},
		{"nodial", "it has neither of the operations listen and dial"},
		{"halfdial", "it has the operation dial without dial_cancel"},
		{"halflisten", "it has the operation listen without unlisten and describe"},
	};
	char path[4096];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		built(bad[i].name, path, sizeof(path));
		refused(path, bad[i].why);
	}
}

static void test_good_records(void **state)
{
	static const char *const good[] = {"good", "plain"};
	struct alk_err err = {""};
	char path[4096];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		built(good[i], path, sizeof(path));
		if (alk_loader_check_file(path, &err) < 0)
			fail_msg("%s", err.text);
	}
}

static void test_bad_files(void **state)
{
	struct bench *b = *state;
	char path[128], link[128];

	snprintf(path, sizeof(path), "%s/plain.so", b->dir);
	refused(path, "No such file or directory");
	write_file(path, "", 0);
	refused(path, "plain.so is empty");
	write_file(path, "not a plugin\n", 13);
	refused(path, "plain.so is not a shared object");
	write_file(path,
		   "\x7f"
		   "ELF",
		   4);
	refused(path, "plain.so is not a shared object");
	unlink(path);
	assert_int_equal(mkdir(path, 0755), 0);
	refused(path, "plain.so is not a regular file");
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(path, "plain.so is not a regular file");
	unlink(path);
	put(b, "plain", "plain", SIZE_MAX);
	assert_int_equal(alk_loader_check_file(path, NULL), 0);
	refused("plain.so", "\"plain.so\" is not an absolute path");
	refused("/", "/ is not called NAME.so");
	refused("/tmp/.so", "/tmp/.so is not called NAME.so");
	refused("/tmp/plain", "/tmp/plain is not called NAME.so");
	refused("/tmp/averyveryverylongname.so", "is not called NAME.so");
	snprintf(link, sizeof(link), "%s/loop.so", b->dir);
	assert_int_equal(symlink("loop.so", link), 0);
	refused(link, "Too many levels of symbolic links");
}

/* Cut anywhere, it is refused, and does not take the program with it. */
static void test_truncated_files(void **state)
{
	struct bench *b = *state;
	char from[4096], path[128];
	struct stat st;
	size_t cut;

	built("plain", from, sizeof(from));
	assert_int_equal(stat(from, &st), 0);
	snprintf(path, sizeof(path), "%s/plain.so", b->dir);
	for (cut = 1; cut < 12; cut++) {
		put(b, "plain", "plain", (size_t)st.st_size * cut / 24);
		refused(path, "plain.so ");
	}
	put(b, "plain", "plain", 80);
	refused(path, "plain.so was cut short");
}

static void test_writable_by_others(void **state)
{
	struct bench *b = *state;
	char path[128];

	put(b, "plain", "plain", SIZE_MAX);
	snprintf(path, sizeof(path), "%s/plain.so", b->dir);
	assert_int_equal(chmod(path, 0757), 0);
	refused(path, "can be written by others (mode 757): use chmod go-w");
	assert_int_equal(chmod(path, 0775), 0);
	refused(path, "can be written by others (mode 775): use chmod go-w");
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(alk_loader_check_file(path, NULL), 0);
	assert_int_equal(chmod(b->dir, 0777), 0);
	refused(path, "can be written by others (mode 777): use chmod go-w");
	assert_int_equal(chmod(b->dir, 0755), 0);
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(path, 65534, 65534), 0);
	refused(path, "belongs to user 65534: only root's plugins and one's own are opened");
}

/* A link is followed, and what it leads to is judged. */
static void test_symlinks(void **state)
{
	struct bench *b = *state;
	char path[128], sub[128], link[128];

	snprintf(sub, sizeof(sub), "%s/sub", b->dir);
	assert_int_equal(mkdir(sub, 0755), 0);
	put(b, "plain", "sub/plain", SIZE_MAX);
	snprintf(path, sizeof(path), "%s/sub/plain.so", b->dir);
	snprintf(link, sizeof(link), "%s/plain.so", b->dir);
	assert_int_equal(symlink("sub/plain.so", link), 0);
	assert_int_equal(alk_loader_check_file(link, NULL), 0);
	assert_int_equal(chmod(sub, 0777), 0);
	refused(link, "can be written by others");
	assert_int_equal(chmod(sub, 0755), 0);
	assert_int_equal(chmod(path, 0666), 0);
	refused(link, "can be written by others");
}

/* ---- a directory ---- */

static void test_bad_directories(void **state)
{
	struct bench *b = *state;
	struct alk_err err;

	assert_null(alk_loader_new(b->loop, ALK_ROLE_SUPERVISOR, "plugins", b->conf, &err));
	assert_string_equal(err.text, "the plugin directory \"plugins\" is not an absolute path");
	assert_null(alk_loader_new(b->loop, ALK_ROLE_SUPERVISOR, "/nonexistent", b->conf, &err));
	assert_string_equal(err.text,
			    "the plugin directory /nonexistent: No such file or directory");
	assert_null(alk_loader_new(b->loop, ALK_ROLE_SUPERVISOR, "/etc/passwd", b->conf, &err));
	assert_string_equal(err.text, "the plugin directory /etc/passwd is not a directory");
	assert_null(alk_loader_new(b->loop, ALK_ROLE_SUPERVISOR, "/tmp", b->conf, &err));
	assert_non_null(strstr(err.text, "/tmp can be written by others"));
}

static void new_loader(struct bench *b, enum alk_role role)
{
	struct alk_err err = {""};

	b->loader = alk_loader_new(b->loop, role, b->dir, b->conf, &err);
	if (b->loader == NULL)
		fail_msg("%s", err.text);
}

static void configure(struct bench *b, const char *text)
{
	struct alk_err err = {""};
	char path[128];

	snprintf(path, sizeof(path), "%s/alknet.conf", b->dir);
	write_file(path, text, strlen(text));
	if (alk_conf_load_file(b->conf, path, &err) < 0)
		fail_msg("%s", err.text);
}

static void test_get(void **state)
{
	struct bench *b = *state;
	struct alk_loaded *loaded;
	struct load_state *good;
	struct alk_err err = {""};
	int deinits = 0;
	json_t *list;

	put(b, "good", "good", SIZE_MAX);
	put(b, "plain", "plain", SIZE_MAX);
	configure(b, "return { connect_timeout = 7, good = { word = 'hello' } }");
	new_loader(b, ALK_ROLE_WORKER);
	list = alk_loader_list(b->loader);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	loaded = alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "good", &err);
	if (loaded == NULL)
		fail_msg("%s", err.text);
	assert_ptr_equal(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "good", &err), loaded);
	assert_string_equal(alk_loaded_plugin(loaded)->version, "1.2");
	good = alk_loaded_state(loaded);
	assert_int_equal(good->role, ALK_ROLE_WORKER);
	assert_ptr_equal(good->loop, b->loop);
	assert_string_equal(good->word, "hello");
	assert_int_equal(good->connect_timeout, 7000);
	good->deinits = &deinits;
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_TRANSPORT, "good", &err));
	assert_string_equal(err.text, "plugin good is a service, not a transport");
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_TRANSPORT, "plain", &err));
	assert_string_equal(err.text, "plugin plain is a service, not a transport");
	loaded = alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "plain", &err);
	assert_non_null(loaded);
	assert_null(alk_loaded_state(loaded));
	list = alk_loader_list(b->loader);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")),
			    "good");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "kind")),
			    "service");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "version")),
			    "1.2");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "abi")),
			    ABI);
	assert_non_null(strstr(json_string_value(json_object_get(json_array_get(list, 0), "path")),
			       "/good.so"));
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "name")),
			    "plain");
	json_decref(list);
	alk_loader_free(&b->loader);
	assert_int_equal(deinits, 1);
}

/* What was unloaded is gone with its options, may be kept away, and comes back. */
static void test_unload(void **state)
{
	struct bench *b = *state;
	struct alk_loaded *loaded;
	struct load_state *good;
	struct alk_err err = {""};
	int deinits = 0;

	put(b, "good", "good", SIZE_MAX);
	configure(b, "return { good = { word = 'hello' } }");
	new_loader(b, ALK_ROLE_WORKER);
	assert_true(alk_loader_configured(b->loader, "good"));
	assert_false(alk_loader_configured(b->loader, "plain"));
	for (int round = 1; round <= 3; round++) {
		assert_null(alk_loader_find(b->loader, "good"));
		loaded = alk_loader_get(b->loader, ALK_PLUGIN_NONE, "good", &err);
		if (loaded == NULL)
			fail_msg("%s", err.text);
		assert_ptr_equal(alk_loader_find(b->loader, "good"), loaded);
		good = alk_loaded_state(loaded);
		assert_string_equal(good->word, "hello");
		good->deinits = &deinits;
		alk_loader_unload(b->loader, "good");
		assert_int_equal(deinits, round);
	}
	alk_loader_unload(b->loader, "good");
	assert_int_equal(deinits, 3);
	assert_int_equal(alk_loader_forbid(b->loader, "good", true), 0);
	assert_true(alk_loader_forbidden(b->loader, "good"));
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "good", &err));
	assert_non_null(strstr(err.text, "plugin good was unloaded"));
	assert_int_equal(alk_loader_forbid(b->loader, "good", false), 0);
	assert_non_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "good", &err));
}

static void test_get_what_is_not_there(void **state)
{
	struct bench *b = *state;
	struct alk_err err;

	new_loader(b, ALK_ROLE_WORKER);
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "none", &err));
	assert_non_null(strstr(err.text, "plugin none: "));
	assert_non_null(strstr(err.text, "none.so: No such file or directory"));
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "../../tmp/x", &err));
	assert_string_equal(
		err.text,
		"\"../../tmp/x\" is no name of a plugin: it has 1 to 15 of a-z, 0-9, - and _");
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "", &err));
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "averyverylongnam", &err));
}

static void test_init_fails(void **state)
{
	struct bench *b = *state;
	struct alk_err err;
	json_t *list;

	put(b, "good", "good", SIZE_MAX);
	configure(b, "return { good = { fail = true } }");
	new_loader(b, ALK_ROLE_WORKER);
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "good", &err));
	assert_string_equal(err.text, "plugin good: told to fail");
	list = alk_loader_list(b->loader);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
}

/* `alknet check`: the options are checked, and nothing is begun. */
static void test_check_role(void **state)
{
	struct bench *b = *state;
	struct alk_loaded *loaded;
	struct alk_err err;

	put(b, "good", "good", SIZE_MAX);
	configure(b, "return { good = { fail = true } }");
	new_loader(b, ALK_ROLE_CHECK);
	loaded = alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "good", &err);
	assert_non_null(loaded);
	assert_null(alk_loaded_state(loaded));
}

static void test_wrong_options(void **state)
{
	struct bench *b = *state;
	struct alk_err err;

	put(b, "good", "good", SIZE_MAX);
	configure(b, "return { good = { wrod = 'x' } }");
	new_loader(b, ALK_ROLE_CHECK);
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "good", &err));
	assert_non_null(strstr(err.text, "wrod"));
	assert_non_null(strstr(err.text, "word"));
}

/* The mode of the directory changed while the program ran. */
static void test_directory_opened_up_later(void **state)
{
	struct bench *b = *state;
	struct alk_err err;

	put(b, "plain", "plain", SIZE_MAX);
	new_loader(b, ALK_ROLE_WORKER);
	assert_int_equal(chmod(b->dir, 0777), 0);
	assert_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "plain", &err));
	assert_non_null(strstr(err.text, "can be written by others"));
}

struct found {
	char loaded[256], refused[256], why[1024];
};

static void on_loaded(void *user, struct alk_loaded *loaded)
{
	struct found *found = user;

	strcat(found->loaded, alk_loaded_plugin(loaded)->name);
	strcat(found->loaded, " ");
}

static void on_refused(void *user, const char *name, const struct alk_err *why)
{
	struct found *found = user;

	strcat(found->refused, name);
	strcat(found->refused, " ");
	strcat(found->why, why->text);
}

static void test_scan(void **state)
{
	struct bench *b = *state;
	struct found found = {"", "", ""};
	json_t *list;

	put(b, "plain", "plain", SIZE_MAX);
	put(b, "good", "good", SIZE_MAX);
	put(b, "magic", "magic", SIZE_MAX);
	put(b, "magic", "Magic", SIZE_MAX);
	put(b, "plain", "renamed", SIZE_MAX);
	put(b, "plain", "empty", 0);
	configure(b, "return {}");
	new_loader(b, ALK_ROLE_WORKER);
	assert_non_null(alk_loader_get(b->loader, ALK_PLUGIN_SERVICE, "plain", NULL));
	assert_int_equal(alk_loader_scan(b->loader, ALK_PLUGIN_SERVICE, on_loaded, on_refused,
					 &found),
			 0);
	assert_string_equal(found.loaded, "good plain ");
	assert_non_null(strstr(found.refused, "Magic "));
	assert_non_null(strstr(found.refused, "empty magic renamed "));
	assert_non_null(strstr(found.why, "\"Magic\" is no name of a plugin"));
	assert_non_null(strstr(found.why, "empty.so is empty"));
	found = (struct found){"", "", ""};
	assert_int_equal(alk_loader_scan(b->loader, ALK_PLUGIN_TRANSPORT, on_loaded, on_refused,
					 &found),
			 0);
	assert_string_equal(found.loaded, "");
	assert_null(
		strstr(found.refused, "plain")); /* of another kind, and none the worse for it */
	list = alk_loader_list(b->loader);
	assert_int_equal(json_array_size(list), 2);
	json_decref(list);
}

#define TEST(name_) cmocka_unit_test_setup_teardown(name_, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_records),
		cmocka_unit_test(test_good_records),
		TEST(test_bad_files),
		TEST(test_truncated_files),
		TEST(test_writable_by_others),
		TEST(test_symlinks),
		TEST(test_bad_directories),
		TEST(test_get),
		TEST(test_unload),
		TEST(test_get_what_is_not_there),
		TEST(test_init_fails),
		TEST(test_check_role),
		TEST(test_wrong_options),
		TEST(test_directory_opened_up_later),
		TEST(test_scan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
