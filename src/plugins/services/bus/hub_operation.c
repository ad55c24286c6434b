/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

/* The operations of a spoke, or a worker's own, as the hub knows them: read once, when a worker
 * tells of them, because each call from elsewhere looks there. */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct hub_operation *)a)->name,
		      ((const struct hub_operation *)b)->name);
}

static bool operation_read(const json_t *json, struct hub_operation *operation)
{
	const char *name = json_string_value(json_object_get(json, "name"));
	const char *type = json_string_value(json_object_get(json, "op_type"));

	if (name == NULL || (operation->name = strdup(name)) == NULL)
		return false;
	operation->many = type != NULL && strcmp(type, "subscription") == 0;
	return true;
}

struct hub_operations *hub_operations_read(const char *text)
{
	json_t *one, *list = json_loads(text, 0, NULL);
	size_t i, n = json_array_size(list);
	struct hub_operations *read = list != NULL
					      ? calloc(1, sizeof(*read) + n * sizeof(*read->list))
					      : NULL;

	if (read != NULL)
		json_array_foreach(list, i, one)
		{
			if (operation_read(one, &read->list[read->n]))
				read->n++;
		}
	if (read != NULL && read->n < n)
		hub_operations_free(&read);
	json_decref(list);
	if (read != NULL)
		qsort(read->list, read->n, sizeof(*read->list), by_name);
	return read;
}

void hub_operations_free(struct hub_operations **operations)
{
	struct hub_operations *o = *operations;

	*operations = NULL;
	for (size_t i = 0; o != NULL && i < o->n; i++)
		free(o->list[i].name);
	free(o);
}

const struct hub_operation *hub_operations_find(const struct hub_operations *operations,
						const char *name)
{
	struct hub_operation key = {.name = (char *)(uintptr_t)name};

	if (operations == NULL)
		return NULL;
	return bsearch(&key, operations->list, operations->n, sizeof(key), by_name);
}
