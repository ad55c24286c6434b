/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cert_digest.h"
#include "conf_private.h"
#include "ssh_library.h"

const struct alk_metric_info alk_metric_info[ALK_METRIC_COUNT] = {
#define ALK_METRIC(id_, kind_, name_, help_) {.name = (name_), .kind = (kind_), .help = (help_)},
#include "metrics.def"
#undef ALK_METRIC
};

const struct alk_histogram_info alk_histogram_info[ALK_HISTOGRAM_COUNT] = {
#define ALK_HISTOGRAM(id_, name_, help_) {.name = (name_), .help = (help_)},
#include "metrics_histograms.def"
#undef ALK_HISTOGRAM
};

const struct alk_own_info alk_own_info[ALK_OWN_COUNT] = {
#define ALK_OWN(id_, kind_, name_, who_, labels_, help_)                                           \
	{.kind = (kind_), .name = (name_), .who = (who_), .labels = (labels_), .help = (help_)},
#include "metrics_own.def"
#undef ALK_OWN
};

void alk_metrics_add(struct alk_metrics *metrics, const struct alk_board *board, bool live)
{
	for (int m = 0; m < ALK_METRIC_COUNT && board != NULL; m++) {
		if (alk_metric_info[m].kind == ALK_GAUGE && !live)
			continue;
		metrics->total[m] += atomic_load_explicit(&board->metric[m], memory_order_relaxed);
	}
	for (int h = 0; h < ALK_HISTOGRAM_COUNT && board != NULL; h++) {
		const struct alk_board_histogram *from = &board->histogram[h];

		for (int b = 0; b < ALK_BUCKET_COUNT; b++)
			metrics->bucket[h][b] += atomic_load_explicit(&from->bucket[b],
								      memory_order_relaxed);
		metrics->sum_us[h] += atomic_load_explicit(&from->sum_us, memory_order_relaxed);
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

static void text_head(struct alk_metrics_text *out, const char *name, const char *kind,
		      const char *help)
{
	text_add(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static const char *kind_str(enum alk_metric_kind kind)
{
	return kind == ALK_COUNTER ? "counter" : "gauge";
}

void alk_metrics_head(struct alk_metrics_text *out, enum alk_own own)
{
	const struct alk_own_info *info = &alk_own_info[own];

	text_head(out, info->name, kind_str(info->kind), info->help);
}

void alk_metrics_sample(struct alk_metrics_text *out, enum alk_own own, const char *labels,
			double value)
{
	const char *name = alk_own_info[own].name;

	if (value == floor(value) && fabs(value) < 1e15)
		text_add(out, "%s%s %.0f\n", name, labels, value);
	else
		text_add(out, "%s%s %.9g\n", name, labels, value);
}

void alk_metrics_own(struct alk_metrics_text *out, enum alk_own own, double value)
{
	alk_metrics_head(out, own);
	alk_metrics_sample(out, own, "", value);
}

void alk_metrics_build(struct alk_metrics_text *out)
{
	char labels[256];

	snprintf(labels, sizeof(labels), "{version=\"%s\",libssh=\"%s\",openssl=\"%s\",lua=\"%s\"}",
		 PACKAGE_VERSION, alk_ssh_library(), alk_cert_library(), alk_conf_lua_version());
	alk_metrics_head(out, ALK_OWN_BUILD_INFO);
	alk_metrics_sample(out, ALK_OWN_BUILD_INFO, labels, 1);
}

static void write_histogram(struct alk_metrics_text *out, const struct alk_metrics *metrics, int h)
{
	static const char *const end[] = {
#define X(ms_) #ms_ "e-3",
		ALK_BUCKETS_MS(X)
#undef X
	};
	const char *name = alk_histogram_info[h].name;
	uint64_t n = 0;

	text_head(out, name, "histogram", alk_histogram_info[h].help);
	for (size_t b = 0; b < sizeof(end) / sizeof(end[0]); b++) {
		n += metrics->bucket[h][b];
		text_add(out, "%s_bucket{le=\"%g\"} %llu\n", name, strtod(end[b], NULL),
			 (unsigned long long)n);
	}
	n += metrics->bucket[h][ALK_BUCKET_COUNT - 1];
	text_add(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name,
		 (unsigned long long)n, name, (double)metrics->sum_us[h] / 1e6, name,
		 (unsigned long long)n);
}

void alk_metrics_write(struct alk_metrics_text *out, const struct alk_metrics *metrics)
{
	for (int m = 0; m < ALK_METRIC_COUNT; m++) {
		const struct alk_metric_info *info = &alk_metric_info[m];

		text_head(out, info->name, kind_str(info->kind), info->help);
		/* Whole numbers stay exact, also past 2^53. Gauges are signed: one that went below
		 * zero for a moment is not 2^64. */
		if (info->kind == ALK_GAUGE)
			text_add(out, "%s %lld\n", info->name, (long long)metrics->total[m]);
		else
			text_add(out, "%s %llu\n", info->name,
				 (unsigned long long)metrics->total[m]);
	}
	for (int h = 0; h < ALK_HISTOGRAM_COUNT; h++)
		write_histogram(out, metrics, h);
}

void alk_metrics_append(struct alk_metrics_text *out, const char *lines)
{
	size_t len = strlen(lines);

	text_add(out, "%s%s", lines, len > 0 && lines[len - 1] != '\n' ? "\n" : "");
}

void alk_metrics_text_deinit(struct alk_metrics_text *out)
{
	free(out->text);
	*out = (struct alk_metrics_text){0};
}
