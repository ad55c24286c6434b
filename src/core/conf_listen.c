/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "conf_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cidr.h"

#define PROXY_FROM_MAX 64

/* What `listen` says: "ADDR:PORT", { transport = ..., address = ... }, or a list of both. */

/* Which networks the PROXY headers come from: one, or a list. Anybody else could claim any
 * address. */
static int proxy_from_check(const json_t *from, size_t number, struct alk_err *err)
{
	size_t n = json_is_string(from) ? 1 : json_array_size(from);
	struct alk_cidr cidr;

	if (n == 0 || n > PROXY_FROM_MAX)
		return alk_err_set(
			err, -EINVAL,
			"entry %zu: proxy_protocol needs proxy_from = { \"10.0.0.0/8\", ... }, 1 to %d networks",
			number, PROXY_FROM_MAX);
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_is_string(from) ? from : json_array_get(from, i);
		const char *text = json_string_value(one), *why;

		why = text != NULL ? alk_cidr_parse(&cidr, text) : "it is no text";
		if (why != NULL)
			return alk_err_set(err, -EINVAL, "entry %zu: proxy_from: network %zu: %s",
					   number, i + 1, why);
	}
	return 0;
}

static int listen_table_read(json_t *entry, size_t number, struct alk_conf_listen *out,
			     struct alk_err *err)
{
	json_t *from = NULL, *said = NULL;
	json_error_t why;
	bool proxy;

	if (json_unpack_ex(entry, &why, 0, "{s?s, s:s, s?o, s?o !}", "transport", &out->transport,
			   "address", &out->address, "proxy_protocol", &said, "proxy_from",
			   &from) < 0)
		return alk_err_set(
			err, -EINVAL,
			"entry %zu must be { transport = \"NAME\", address = \"ADDR:PORT\" }: %s",
			number, why.text);
	if (said != NULL && !json_is_boolean(said))
		return alk_err_set(err, -EINVAL, "entry %zu: proxy_protocol must be true or false",
				   number);
	proxy = json_is_true(said);
	if (!proxy && from != NULL)
		return alk_err_set(err, -EINVAL,
				   "entry %zu: proxy_from stands without proxy_protocol = true",
				   number);
	if (!proxy)
		return 0;
	out->proxy_from = from;
	return proxy_from_check(from, number, err);
}

/* Fills what the entry says into *out, which has the default transport; borrows the entry's
 * texts. */
static int listen_entry_read(json_t *entry, size_t number, struct alk_conf_listen *out,
			     struct alk_err *err)
{
	int rc = 0;

	out->address = json_string_value(entry);
	if (!json_is_object(entry) && out->address == NULL)
		return alk_err_set(
			err, -EINVAL,
			"entry %zu must be \"ADDR:PORT\" or { transport = ..., address = ... }",
			number);
	if (out->address == NULL)
		rc = listen_table_read(entry, number, out, err);
	if (rc == 0 && (out->address[0] == '\0' || !alk_conf_is_stem(out->transport)))
		rc = alk_err_set(err, -EINVAL,
				 "entry %zu has an empty address or no transport's name", number);
	return rc;
}

/* In the file a wrong entry is an error, also where a flag takes its place. */
int alk_conf_listen_check(json_t *listen, struct alk_err *err)
{
	struct alk_conf_listen out = {.transport = "tcp"};
	json_t *entry;
	size_t i;
	int rc = 0;

	if (json_is_object(listen) && json_object_size(listen) == 0)
		return 0;
	if (!json_is_array(listen))
		return listen_entry_read(listen, 1, &out, err);
	json_array_foreach(listen, i, entry)
	{
		if (rc == 0)
			rc = listen_entry_read(entry, i + 1, &out, err);
	}
	return rc;
}

static int listen_add(struct alk_conf *conf, const struct alk_conf_listen *listen,
		      struct alk_err *err)
{
	struct alk_conf_listen *more = realloc(conf->listen,
					       (conf->listen_count + 1) * sizeof(*conf->listen));

	if (more == NULL)
		return alk_err_set(err, -ENOMEM, "out of memory");
	conf->listen = more;
	more[conf->listen_count++] = *listen;
	return 0;
}

static int listen_add_entry(struct alk_conf *conf, json_t *entry, size_t number,
			    struct alk_err *err)
{
	struct alk_conf_listen out = {.transport = alk_options_str(conf->values, "transport")};
	int rc = listen_entry_read(entry, number, &out, err);

	return rc < 0 ? rc : listen_add(conf, &out, err);
}

int alk_conf_listen_build(struct alk_conf *conf, struct alk_err *err)
{
	const char *transport = alk_options_str(conf->values, "transport"), *text;
	const struct alk_conf_listen v4 = {.transport = transport,
					   .address = "0.0.0.0:22",
					   .fallback = true},
				     v6 = {.transport = transport,
					   .address = "[::]:22",
					   .fallback = true};
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
		rc = listen_add(conf, &v4, err);
	if (conf->listen_count == 1 && rc == 0 && !alk_options_has(conf->values, "listen"))
		rc = listen_add(conf, &v6, err);
	return rc;
}

const json_t *alk_conf_proxy_from(const struct alk_conf *conf, const char *transport,
				  const char *address)
{
	for (size_t i = 0; i < conf->listen_count; i++)
		if (strcmp(conf->listen[i].transport, transport) == 0 &&
		    strcmp(conf->listen[i].address, address) == 0)
			return conf->listen[i].proxy_from;
	return NULL;
}

size_t alk_conf_listeners(const struct alk_conf *conf, struct alk_conf_listen *out, size_t max)
{
	for (size_t i = 0; i < conf->listen_count && i < max; i++)
		out[i] = conf->listen[i];
	return conf->listen_count;
}
