#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Run one compiled test: a unit test, under valgrind where `make check` says so, or a fuzz harness over
# its corpus.
set -eu
program=$1
name=$(basename "$program")
case $program in
*tests/fuzz/fuzz_*)
	corpus=$ALKNET_SRCDIR/tests/fuzz/corpus/${name#fuzz_}
	# A harness that was linked with libFuzzer reads the corpus and stops, too.
	if [ "$ALKNET_FUZZING" = yes ]; then
		exec "$program" -runs=0 "$corpus"
	fi
	exec "$program" "$corpus"
	;;
esac
[ -n "$ALKNET_VALGRIND" ] || exec "$program"
exec "$ALKNET_VALGRIND" --quiet --error-exitcode=98 --leak-check=full \
	--show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
	--child-silent-after-fork=yes --suppressions="$ALKNET_SRCDIR/tests/valgrind.supp" "$program"
