/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "main.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "cmdline.h"
#include "base64.h"

/* `alknet secret new`: what stealth_secret wants. */

#define SECRET_SIZE 32

static int secret_print(void)
{
	uint8_t bytes[SECRET_SIZE];
	char text[64];
	int status = 1;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes) ||
	    alk_base64_encode(bytes, sizeof(bytes), text, sizeof(text)) < 0)
		fputs("alknet: secret: the system has no randomness\n", stderr);
	else if (puts(text) == EOF || fflush(stdout) != 0)
		fputs("alknet: secret: cannot be written\n", stderr);
	else
		status = 0;
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(text, sizeof(text));
	return status;
}

int alk_main_secret(int argc, char **argv)
{
	const char *last = argv[argc - 1];

	if (argc == 2 && strcmp(last, "new") == 0)
		return secret_print();
	if (strcmp(last, "--help") == 0 || strcmp(last, "-h") == 0) {
		alk_cmdline_help("secret", stdout);
		return fflush(stdout) == 0 ? 0 : 1;
	}
	fputs("alknet: secret: say \"alknet secret new\", which prints one\n", stderr);
	return 2;
}
