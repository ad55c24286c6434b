/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands in for libFuzzer's main: run the harness once over each file of the directories that are
 * named. A harness that finds something aborts; its input is named before it runs. */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void replay_file(const char *path)
{
	struct stat st;
	uint8_t *bytes;
	FILE *file = fopen(path, "rb");

	if (file == NULL || fstat(fileno(file), &st) < 0)
		fail(path);
	/* Exactly as large as the input, so that a read past its end is seen. */
	bytes = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
	if (bytes == NULL || fread(bytes, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
		fail(path);
	fclose(file);
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(bytes, (size_t)st.st_size);
	free(bytes);
}

static int replay_directory(const char *path)
{
	char name[PATH_MAX];
	struct dirent *entry;
	int count = 0;
	DIR *dir = opendir(path);

	if (dir == NULL)
		fail(path);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		replay_file(name);
		count++;
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	int count = 0;

	for (int i = 1; i < argc; i++)
		count += replay_directory(argv[i]);
	printf("%d inputs\n", count);
	return count > 0 ? 0 : 1;
}
