/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_JSON_TEXT_H
#define ALK_JSON_TEXT_H

/* Text that is not ours in JSON. Peers' names, what a file or a script says, a sentence that was
 * cut: none of it has to be UTF-8, and jansson makes nothing at all of text that is not, or of an
 * object with such text in it. */

#include <jansson.h>

/* A string; what is no UTF-8 is escaped as alk_text_escape() does, and cut at 1 KiB then. NULL:
 * `text` is, or memory is out. For json_pack: "o" where the text is there, "o*" where it may be
 * missing. */
json_t *alk_json_text(const char *text);

#endif
