#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# install-links.sh DOCDIR PKGDATADIR [DESTDIR]: the pages as they were installed there. A link to what was installed elsewhere leads
# to that; one to what is in the source tree alone becomes its text.
set -eu
doc=$3$1
for page in "$doc"/*.md "$doc"/docs/*.md; do
	[ -f "$page" ] || continue
	awk -v from="${page%/*}" -v data="$2" -v dest="$3" '
		function there(path) {
			gsub(/\047/, "", path)
			return system("test -e \047" path "\047") == 0
		}
		function fixed(text, target,   bare, elsewhere) {
			bare = target
			sub(/#.*/, "", bare)
			if (bare !~ /^[A-Za-z0-9_.\/-]+$/ || (bare !~ /\// && bare !~ /\.md$|^LICENSE/) || there(from "/" bare))
				return "[" text "](" target ")"
			elsewhere = bare
			if (sub(/^(\.\.\/)?(scripts|conf)\//, data "/", elsewhere) && there(dest elsewhere))
				return "[" text "](" elsewhere ")"
			return text
		}
		{ all = all $0 "\n" }
		END {
			while (match(all, /\[[^][]*\]\([^() \n]*\)/)) {
				link = substr(all, RSTART + 1, RLENGTH - 2)
				printf "%s", substr(all, 1, RSTART - 1)
				all = substr(all, RSTART + RLENGTH)
				at = index(link, "](")
				printf "%s", fixed(substr(link, 1, at - 1), substr(link, at + 2))
			}
			printf "%s", all
		}' "$page" >"$page.tmp"
	cat "$page.tmp" >"$page"
	rm "$page.tmp"
done
