#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Who may include what, and how long a file may be. A library that leaks out of its files cannot be replaced or sandboxed later.
set -eu
cd "$(dirname "$0")/.."
status=0
only() { # HEADER ALLOWED-FILES: no other file below include/ and src/ includes it
	local bad
	bad=$(grep -rlE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$1" include src | grep -vE "^src/(core/($2)${3:+|plugins/($3)})\$") || return 0
	echo "only src/core/($2) may include $1: $bad"
	status=1
}
only '(lua|lualib|lauxlib)\.h' '(policy[a-z_]*|conf_lua)\.[ch]'
only 'libssh/' '(ssh_[a-z_]+|knownhosts|knownhosts_add|identity)\.[ch]'
only 'ev\.h' 'loop_own\.h'
only 'ares\.h' '(resolver|dial)\.[ch]'
only 'openssl/' '(cert|krl|pkey)[a-z_]*\.[ch]' 'transports/tls/[a-z0-9_]+\.[ch]|services/secret/[a-z0-9_]+\.[ch]'
only 'seccomp\.h' 'sandbox\.c'
only 'curl/' 'none' 'transports/tls/acme_[a-z]+\.[ch]'
# A file that nobody can read as a whole is several.
parts=(include src tests examples scripts)
[ ! -d bindings ] || parts+=(bindings)
long=$(find "${parts[@]}" \( -name node_modules -o -name target -o -name corpus \) -prune -o -type f \
	\( -name '*.[ch]' -o -name '*.def' -o -name '*.cc' -o -name '*.py' -o -name '*.lua' -o -name '*.js' -o -name '*.rs' -o -name '*.sh' \) \
	-exec awk 'FNR == 901 { print FILENAME }' {} +)
[ -z "$long" ] || {
	echo "more than 900 lines: $long"
	status=1
}
exit $status
