/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef ALK_METRICS_H
#define ALK_METRICS_H

/* Metrics as Prometheus text (exposition format 0.0.4). Names begin with alknet_, units are base
 * units, and labels take values from fixed lists of ours only, so nothing a peer does can make them
 * grow.
 *
 * The supervisor is the only writer: counters of a worker that died are folded into the totals, so
 * that a total never goes back. */

#include <stdbool.h>
#include <stddef.h>
#include "board.h"

/* What stands on no board: the supervisor's and the client's own, metrics_own.def. */
enum alk_own {
#define ALK_OWN(id_, kind_, name_, who_, labels_, help_) ALK_OWN_##id_,
#include "metrics_own.def"
#undef ALK_OWN
	ALK_OWN_COUNT
};

struct alk_own_info {
	enum alk_metric_kind kind;
	const char *name, *who, *labels, *help;
};
extern const struct alk_own_info alk_own_info[ALK_OWN_COUNT];

struct alk_metrics {
	uint64_t total[ALK_METRIC_COUNT];
	uint64_t bucket[ALK_HISTOGRAM_COUNT][ALK_BUCKET_COUNT], sum_us[ALK_HISTOGRAM_COUNT];
};

/* Add what stands on `board`; gauges only when `live` (a dead worker holds nothing). NULL adds
 * nothing. */
void alk_metrics_add(struct alk_metrics *metrics, const struct alk_board *board, bool live);

/* Text under construction; `failed` once memory ran out. */
struct alk_metrics_text {
	char *text;
	size_t len, size;
	bool failed;
};
/* "# HELP" and "# TYPE" of one of our own; samples follow. */
void alk_metrics_head(struct alk_metrics_text *out, enum alk_own own);
/* One sample. `labels` is "" or {name="value",...} with values of ours. */
void alk_metrics_sample(struct alk_metrics_text *out, enum alk_own own, const char *labels,
			double value);
/* Both, of one that has no labels. */
void alk_metrics_own(struct alk_metrics_text *out, enum alk_own own, double value);
/* alknet_build_info. */
void alk_metrics_build(struct alk_metrics_text *out);
/* Every metric of metrics.def and metrics_histograms.def. */
void alk_metrics_write(struct alk_metrics_text *out, const struct alk_metrics *metrics);
/* Lines that were made elsewhere; a newline is added if they lack one. */
void alk_metrics_append(struct alk_metrics_text *out, const char *lines);
void alk_metrics_text_deinit(struct alk_metrics_text *out);

#endif
