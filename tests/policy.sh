#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The policy ring: every shipped policy that has tests beside it, in the real program.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
status=1
while IFS= read -r tests; do
	policy=${tests%_test.lua}.lua
	printf 'return { key = "%s", authorized_keys = "%s", policy = "%s", admin_socket = "none" }\n' \
		"$dir/key" "$dir/key.pub" "$policy" >"$dir/alknet.conf"
	"$ALKNET" check -c "$dir/alknet.conf" | tee "$dir/out"
	grep -q '^ok 1 ' "$dir/out" # a check that ran no test would pass, too
	status=0
done < <(find "$ALKNET_SRCDIR/scripts" -name '*_test.lua' | LC_ALL=C sort)
exit "$status"
