#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The integration ring (or the ring of faults, or what has to run alone): pytest over the programs that were built. What it prints
# goes to the log, and how far it is to the terminal (descriptor 9). ALKNET_TESTS: these files and no others. ALKNET_TEST_JOBS: so
# many files at a time (most tests wait for something; one more than there are processors), where pytest-xdist is installed.
set -euo pipefail
ring=${ALKNET_RING:-integration}
if ! "$PYTHON" -c 'import pytest' 2>/dev/null; then
	echo "pytest is not installed for $PYTHON: the tests of $ring are skipped"
	exit 77
fi
files=()
[[ -z ${ALKNET_TESTS-} ]] || read -ra files <<<"$ALKNET_TESTS"
chosen=("${files[@]}")
case $ring in
integration)
	jobs=${ALKNET_TEST_JOBS:-$(($(nproc) + 1))}
	[[ -n ${files[*]} ]] || chosen+=(-m "not alone")
	if ((jobs > 1)) && "$PYTHON" -c 'import xdist' 2>/dev/null; then
		chosen+=(-n "$jobs" --dist loadfile)
	fi
	;;
alone)
	[[ -z ${files[*]} ]] || exit 77
	ring=integration chosen=(-m alone)
	;;
esac
cd "$ALKNET_SRCDIR/tests/$ring"
{ : >&9; } 2>/dev/null || exec 9>/dev/null
# A test that hangs says where after five minutes, and the whole ring ends some time.
PYTHONDONTWRITEBYTECODE=1 timeout --signal=INT --kill-after=30 3000 \
	"$PYTHON" -m pytest -rfE -o faulthandler_timeout=300 "${chosen[@]}" "$@" 2>&1 | while IFS= read -r line; do
	printf '%s\n' "$line"
	[[ ! $line =~ %\]$|[0-9]\ (passed|failed) ]] || printf '    pytest: %s\n' "$line" >&9
done
