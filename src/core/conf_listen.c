/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <errno.h>
#include <stdlib.h>

/* What `listen` says: "ADDR:PORT", { transport = ..., address = ... }, or a list of both. */

static int listen_entry_read(json_t *entry, size_t number, const char **transport,
			     const char **address, struct alk_err *err)
{
	json_error_t why;

	*address = json_string_value(entry);
	if (!json_is_object(entry) && *address == NULL)
		return alk_err_set(
			err, -EINVAL,
			"entry %zu must be \"ADDR:PORT\" or { transport = ..., address = ... }",
			number);
	if (*address == NULL && json_unpack_ex(entry, &why, 0, "{s?s, s:s !}", "transport",
					       transport, "address", address) < 0)
		return alk_err_set(
			err, -EINVAL,
			"entry %zu must be { transport = \"NAME\", address = \"ADDR:PORT\" }: %s",
			number, why.text);
	if (**address == '\0' || !alk_conf_is_stem(*transport))
		return alk_err_set(err, -EINVAL,
				   "entry %zu has an empty address or no transport's name", number);
	return 0;
}

/* In the file a wrong entry is an error, also where a flag takes its place. */
int alk_conf_listen_check(json_t *listen, struct alk_err *err)
{
	const char *transport = "tcp", *address;
	json_t *entry;
	size_t i;
	int rc = 0;

	if (json_is_object(listen) && json_object_size(listen) == 0)
		return 0;
	if (!json_is_array(listen))
		return listen_entry_read(listen, 1, &transport, &address, err);
	json_array_foreach(listen, i, entry)
	{
		if (rc == 0)
			rc = listen_entry_read(entry, i + 1, &transport, &address, err);
	}
	return rc;
}

static int listen_add(struct alk_conf *conf, const char *transport, const char *address,
		      struct alk_err *err)
{
	struct alk_conf_listen *more = realloc(conf->listen,
					       (conf->listen_count + 1) * sizeof(*conf->listen));

	if (more == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	conf->listen = more;
	more[conf->listen_count++] = (struct alk_conf_listen){transport, address};
	return 0;
}

static int listen_add_entry(struct alk_conf *conf, json_t *entry, size_t number,
			    struct alk_err *err)
{
	const char *transport = alk_options_str(conf->values, "transport"), *address;
	int rc = listen_entry_read(entry, number, &transport, &address, err);

	return rc < 0 ? rc : listen_add(conf, transport, address, err);
}

int alk_conf_listen_build(struct alk_conf *conf, struct alk_err *err)
{
	const char *text, *transport = alk_options_str(conf->values, "transport");
	char given[512];
	int rc = 0;

	conf->listen_texts = json_array();
	for (size_t i = 0; rc == 0 && (text = alk_options_nth(conf->values, "listen", i)) != NULL;
	     i++) {
		json_t *entry = json_loads(text, JSON_DECODE_ANY, NULL);

		if (entry == NULL || json_array_append_new(conf->listen_texts, entry) < 0)
			return alk_err_set(err, -ENOMEM, "out of memory");
		rc = listen_add_entry(conf, entry, i + 1, err);
	}
	if (rc < 0) {
		alk_conf_given_as(conf, "listen", given, sizeof(given));
		return alk_err_prefix(err, rc, "%s", given);
	}
	if (conf->listen_count == 0)
		rc = listen_add(conf, transport, "0.0.0.0:22", err);
	if (conf->listen_count == 1 && rc == 0 && !alk_options_has(conf->values, "listen"))
		rc = listen_add(conf, transport, "[::]:22", err);
	return rc;
}

size_t alk_conf_listeners(const struct alk_conf *conf, struct alk_conf_listen *out, size_t max)
{
	for (size_t i = 0; i < conf->listen_count && i < max; i++)
		out[i] = conf->listen[i];
	return conf->listen_count;
}
