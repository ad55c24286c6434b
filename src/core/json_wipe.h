/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_JSON_WIPE_H
#define ALK_JSON_WIPE_H

/* From now on jansson wipes all memory that it frees: a phrase or a passphrase that came as JSON
 * (secret.unlock) is gone from the process with its value. Once, before the first use of
 * jansson. */
void alk_json_wipe(void);

#endif
