#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The commands in docs/ADMIN_API.md are those of the table. With "print": print it with them made anew.
set -euo pipefail
srcdir=${ALKNET_SRCDIR:-$(cd "$(dirname "$0")/.." && pwd)}
admin=${ALKNET_ADMIN:?the program alknet-admin}
doc=$srcdir/docs/ADMIN_API.md
made=$(mktemp)
trap 'rm -f "$made"' EXIT
{
	sed -n '1,/^<!-- From here to the end mark/p' "$doc"
	"$admin" --help-api
	sed -n '/^<!-- end -->/,$p' "$doc"
} >"$made"
if [[ ${1-} == print ]]; then
	cat "$made"
elif ! diff -u "$doc" "$made"; then
	echo "docs/ADMIN_API.md is stale: run \"make docs\"" >&2
	exit 1
fi
