/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Does the loader accept these plugins? For test_skeleton.sh. */
#include <stdio.h>
#include "loader.h"

int main(int argc, char **argv)
{
	struct alk_err err;
	int i;

	for (i = 1; i < argc; i++) {
		if (alk_loader_check_file(argv[i], &err) < 0) {
			fprintf(stderr, "%s\n", err.text);
			return 1;
		}
		printf("%s: good\n", argv[i]);
	}
	return argc > 1 ? 0 : 2;
}
