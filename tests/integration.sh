#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The integration ring (or the ring of faults): pytest over the programs that were built. What it prints goes to the log, and
# how far it is to the terminal (descriptor 9). ALKNET_TESTS: these files and no others.
set -euo pipefail
if ! "$PYTHON" -c 'import pytest' 2>/dev/null; then
	echo "pytest is not installed for $PYTHON: the tests of ${ALKNET_RING:-integration} are skipped"
	exit 77
fi
cd "$ALKNET_SRCDIR/tests/${ALKNET_RING:-integration}"
files=()
[[ -z ${ALKNET_TESTS-} ]] || read -ra files <<<"$ALKNET_TESTS"
{ : >&9; } 2>/dev/null || exec 9>/dev/null
# A test that hangs says where after five minutes, and the whole ring ends some time.
PYTHONDONTWRITEBYTECODE=1 timeout --signal=INT --kill-after=30 3000 \
	"$PYTHON" -m pytest -rfE -o faulthandler_timeout=300 "${files[@]}" "$@" 2>&1 | while IFS= read -r line; do
	printf '%s\n' "$line"
	[[ ! $line =~ %\]$|[0-9]\ (passed|failed) ]] || printf '    pytest: %s\n' "$line" >&9
done
