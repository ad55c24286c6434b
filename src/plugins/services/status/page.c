/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* page.html, as the build turned it into lines of text. */
#include "status.h"

const char status_page[] = ""
#include "status_page.inc"
	;
const size_t status_page_len = sizeof(status_page) - 1;
