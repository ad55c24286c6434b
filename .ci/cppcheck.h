/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What cppcheck 2.10 has to be told, because it reads no system headers. It does not know __VA_OPT__
 * either: .ci/run hides the macros that need it. */
#define json_array_foreach(array, i, value)                                                        \
	for (i = 0; i < json_array_size(array) && (value = json_array_get(array, i)) != NULL; i++)
#define json_object_foreach(object, key, value)                                                    \
	for (void *at = json_object_iter(object);                                                  \
	     (key = json_object_iter_key(at)) != NULL && (value = json_object_iter_value(at));     \
	     at = json_object_iter_next(object, at))
#define TAILQ_HEAD(name, type)                                                                     \
	struct name {                                                                              \
		struct type *tqh_first, **tqh_last;                                                \
	}
#define TAILQ_ENTRY(type)                                                                          \
	struct {                                                                                   \
		struct type *tqe_next, **tqe_prev;                                                 \
	}
#define TAILQ_FOREACH(var, head, field)                                                            \
	for ((var) = (head)->tqh_first; (var) != NULL; (var) = (var)->field.tqe_next)
#define LIST_HEAD(name_, type_)                                                                    \
	struct name_ {                                                                             \
		struct type_ *lh_first;                                                            \
	}
#define LIST_HEAD_INITIALIZER(head_)                                                               \
	{                                                                                          \
		0                                                                                  \
	}
#define LIST_ENTRY(type_)                                                                          \
	struct {                                                                                   \
		struct type_ *le_next;                                                             \
		struct type_ **le_prev;                                                            \
	}
#define LIST_INIT(head_) ((head_)->lh_first = 0)
#define LIST_EMPTY(head_) ((head_)->lh_first == 0)
#define LIST_FIRST(head_) ((head_)->lh_first)
#define LIST_NEXT(elm_, field_) ((elm_)->field_.le_next)
#define LIST_FOREACH(var_, head_, field_)                                                          \
	for ((var_) = (head_)->lh_first; (var_); (var_) = (var_)->field_.le_next)
#define LIST_INSERT_HEAD(head_, elm_, field_)                                                      \
	((elm_)->field_.le_next = (head_)->lh_first, (head_)->lh_first = (elm_))
#define LIST_REMOVE(elm_, field_) (*(elm_)->field_.le_prev = (elm_)->field_.le_next)
