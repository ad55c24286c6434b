#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Is docs/POLICY_API.md what the list of functions, the limits and the examples say?
set -euo pipefail
document=$ALKNET_SRCDIR/docs/POLICY_API.md
if ! "$ALKNET_BUILDDIR/docs/api_doc" "$document" "$ALKNET_SRCDIR/scripts" | diff -u "$document" -; then
	echo "docs/POLICY_API.md is stale: make docs"
	exit 1
fi
echo "docs/POLICY_API.md is up to date"
