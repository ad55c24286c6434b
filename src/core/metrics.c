/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct alk_metric_info alk_metric_info[ALK_METRIC_COUNT] = {
#define ALK_METRIC(id_, kind_, name_, help_) {.name = (name_), .kind = (kind_), .help = (help_)},
#include "metrics.def"
#undef ALK_METRIC
};

void alk_metrics_add(struct alk_metrics *metrics, const struct alk_board *board, bool live)
{
	for (int m = 0; m < ALK_METRIC_COUNT && board != NULL; m++) {
		if (alk_metric_info[m].kind == ALK_GAUGE && !live)
			continue;
		metrics->total[m] += atomic_load_explicit(&board->metric[m], memory_order_relaxed);
	}
}

static void ALK_PRINTF(2, 3) text_add(struct alk_metrics_text *out, const char *fmt, ...)
{
	va_list ap;
	int n;

	for (int round = 0; round < 2 && !out->failed; round++) {
		va_start(ap, fmt);
		n = vsnprintf(out->text != NULL ? out->text + out->len : NULL, out->size - out->len,
			      fmt, ap);
		va_end(ap);
		if (n < 0) {
			out->failed = true;
		} else if (out->text != NULL && (size_t)n < out->size - out->len) {
			out->len += (size_t)n;
			return;
		} else {
			size_t size = (out->len + (size_t)n + 1) * 2;
			char *text = realloc(out->text, size);

			if (text == NULL) {
				out->failed = true;
			} else {
				out->text = text;
				out->size = size;
			}
		}
	}
}

void alk_metrics_head(struct alk_metrics_text *out, const char *name, enum alk_metric_kind kind,
		      const char *help)
{
	text_add(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
		 kind == ALK_COUNTER ? "counter" : "gauge");
}

void alk_metrics_sample(struct alk_metrics_text *out, const char *name, const char *labels,
			double value)
{
	if (value == floor(value) && fabs(value) < 1e15)
		text_add(out, "%s%s %.0f\n", name, labels, value);
	else
		text_add(out, "%s%s %.9g\n", name, labels, value);
}

void alk_metrics_write(struct alk_metrics_text *out, const struct alk_metrics *metrics)
{
	for (int m = 0; m < ALK_METRIC_COUNT; m++) {
		const struct alk_metric_info *info = &alk_metric_info[m];

		alk_metrics_head(out, info->name, info->kind, info->help);
		/* Whole numbers stay exact, also past 2^53. Gauges are signed: one that went below zero
		 * for a moment is not 2^64. */
		if (info->kind == ALK_GAUGE)
			text_add(out, "%s %lld\n", info->name, (long long)metrics->total[m]);
		else
			text_add(out, "%s %llu\n", info->name,
				 (unsigned long long)metrics->total[m]);
	}
}

void alk_metrics_append(struct alk_metrics_text *out, const char *lines)
{
	size_t len = strlen(lines);

	text_add(out, "%s%s", lines, len > 0 && lines[len - 1] != '\n' ? "\n" : "");
}

void alk_metrics_text_free(struct alk_metrics_text *out)
{
	free(out->text);
	*out = (struct alk_metrics_text){0};
}
