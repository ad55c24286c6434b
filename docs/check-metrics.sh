#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Is docs/METRICS.md what the tables of metrics say?
set -euo pipefail
document=$ALKNET_SRCDIR/docs/METRICS.md
if ! "$ALKNET_BUILDDIR/docs/metrics_doc" "$document" | diff -u "$document" -; then
	echo "docs/METRICS.md is stale: make docs"
	exit 1
fi
echo "docs/METRICS.md is up to date"
