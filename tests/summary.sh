#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# summary.sh BUILD: what `make check` came to, counted in single tests. Fails when a test failed.
set -eu
find "$1" -name '*.trs' ! -path '*/_build/*' | LC_ALL=C sort | while IFS= read -r trs; do
	printf '@ %s\n' "$(sed -n 's/^:global-test-result: //p' "$trs")"
	cat "${trs%.trs}.log"
done | LC_ALL=C awk '
function finish() {
	if (result == "") return
	if (p + f + s == 0 && result == "PASS") p = 1
	if (p + f + s == 0 && result == "SKIP") s = 1
	if (f == 0 && result != "PASS" && result != "SKIP") f = 1
	passed += p; failed += f; skipped += s
	p = f = s = 0
}
function number(word) {
	return match($0, "[0-9]+ " word) ? substr($0, RSTART, RLENGTH) + 0 : 0
}
/^@ [A-Z]+$/ { finish(); result = $2; next }
# pytest
/^(=+ )?[0-9]+ (passed|failed|skipped|errors?|xfailed|deselected).* in [0-9.]+s/ {
	closing = closing "pytest: " $0 "\n"
	p += number("passed"); f += number("failed") + number("error"); s += number("skipped")
}
# cmocka
/^\[  PASSED  \] [0-9]+ test/ { p += $4 }
/^\[  FAILED  \] tests: [0-9]+ test/ { f += $5 }
/^\[  SKIPPED \] tests: [0-9]+ test/ { s += $5 }
# node --test, which counts what it printed as the Test Anything Protocol
/^# (tests|pass|fail|cancelled|skipped|todo) [0-9]+$/ {
	node = node (node == "" ? "" : ", ") $3 " " $2
	if ($2 == "todo") {
		closing = closing "node: " node "\n"
		node = ""
	}
}
# the Test Anything Protocol
/^ok [0-9]+/ { if (/# SKIP/) s++; else p++ }
/^not ok [0-9]+/ { f++ }
END {
	finish()
	printf "%s%d passed, %d failed, %d skipped\n", closing, passed, failed, skipped
	exit failed > 0 || passed == 0
}'
