/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* metrics_doc DOCUMENT: prints docs/METRICS.md with what stands between "<!-- generated" and "<!-- end -->" made
 * anew from the tables of metrics. `make docs` writes the file, `make check` compares.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/plugins/services/bus/bus.h"
#include "limit.h"
#include "metrics.h"
#include "misdeed.h"

static const char *kind_str(enum alk_metric_kind kind)
{
	return kind == ALK_COUNTER ? "counter" : "gauge";
}

/* What a client asks for is not counted as asked: connect_metrics.c. */
static const char *who_of(enum alk_metric metric)
{
	return metric == ALK_M_CHANNELS_TOTAL || metric == ALK_M_CHANNELS_REFUSED ? "serve"
										  : "both";
}

static void tables_print(void)
{
	const char *mark = "";

	puts("| name | kind | who | labels | what |\n|---|---|---|---|---|");
	for (int i = 0; i < ALK_OWN_COUNT; i++) {
		const struct alk_own_info *own = &alk_own_info[i];

		printf("| `%s` | %s | %s | %s | %s |\n", own->name, kind_str(own->kind), own->who,
		       own->labels, own->help);
	}
	for (int h = 0; h < ALK_HISTOGRAM_COUNT; h++)
		printf("| `%s` | histogram | both | le | %s |\n", alk_histogram_info[h].name,
		       alk_histogram_info[h].help);
	for (int m = 0; m < ALK_METRIC_COUNT; m++)
		printf("| `%s` | %s | %s | | %s |\n", alk_metric_info[m].name,
		       kind_str(alk_metric_info[m].kind), who_of((enum alk_metric)m),
		       alk_metric_info[m].help);
	printf("\nThe buckets end at ");
#define X(ms_)                                                                                     \
	printf("%s%g", mark, (ms_) / 1000.0);                                                      \
	mark = ", ";
	ALK_BUCKETS_MS(X)
#undef X
	printf(" s.\n\n`reason` of `alknet_links_refused_total` is one of ");
	mark = "";
	for (int why = 1; why < ALK_REFUSAL_COUNT; why++) {
		printf("%s`%s`", mark, alk_refusal_str((enum alk_refusal)why));
		mark = ", ";
	}
	printf("; of `alknet_misdeeds_total` ");
	mark = "";
	for (int what = 1; what < ALK_MISDEED_COUNT; what++) {
		printf("%s`%s`", mark, alk_misdeed_str((enum alk_misdeed)what));
		mark = ", ";
	}
	puts(".");
}

static void bus_print(void)
{
#define X(name_, help_) printf("| `alknet_bus_%s_total` | counter | bus | | %s |\n", #name_, help_);
	BUS_COUNTERS(X)
#undef X
}

int main(int argc, char **argv)
{
	FILE *in = argc == 2 ? fopen(argv[1], "r") : NULL;
	bool inside = false;
	char line[4096];

	if (in == NULL) {
		fprintf(stderr, "usage: metrics_doc DOCUMENT\n");
		return 2;
	}
	while (fgets(line, sizeof(line), in) != NULL) {
		if (strcmp(line, "<!-- end -->\n") == 0)
			inside = false;
		if (!inside)
			fputs(line, stdout);
		if (strcmp(line, "<!-- generated -->\n") == 0) {
			inside = true;
			tables_print();
		} else if (strcmp(line, "<!-- generated: the bus -->\n") == 0) {
			inside = true;
			bus_print();
		}
	}
	fclose(in);
	return inside ? 1 : 0;
}
