#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Each part of alknet left out by itself, and all of them together: it is configured, compiled with warnings as errors, and passes
# the unit and policy rings, and those integration tests that know of parts which may be missing.
#
#   switches.sh [PART...]       from a build directory, which it leaves alone but for its own ./switches; `all` is all of them
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
mapfile -t parts < <(sed -n 's/^ALK_FEATURE(\[\([a-z]*\)\].*/\1/p' "$top/configure.ac")
smoke=(test_openssh.py test_plugins.py test_config.py test_sandbox.py test_tls.py test_acme.py test_iroh.py test_secret.py
	test_secret_host_key.py test_bus_nats.py test_bus_nats_durable.py)
jobs=$(nproc 2>/dev/null || echo 2)
started=$SECONDS

fail() { # WHAT LOG
	tail -n 60 "$2"
	echo "switches: $1 failed: $PWD/$2"
	exit 1
}

try() { # NAME SWITCH...
	local name=$1 switch missing units="\$(UNIT_TESTS)" from=$SECONDS
	shift
	rm -rf "switches/$name"
	mkdir -p "switches/$name"
	cd "switches/$name"
	# valgrind makes nothing of this any other, and takes minutes.
	"$top/configure" --enable-werror --without-valgrind "$@" >configure.log 2>&1 || fail "$name: configure" configure.log
	for switch; do
		missing=${switch#--without-}
		grep -Eq "^ +$missing +no \(switched off\)" configure.log || fail "$name: $missing is still there; configure" configure.log
		[[ $missing != cmocka ]] || units=
	done
	make -s -j "$jobs" >build.log 2>&1 || fail "$name: make" build.log
	make -s -j "$jobs" check TESTS="$units tests/policy.sh tests/policy/run_policy scripts/check-includes.sh" \
		>check.log 2>&1 || fail "$name: make check" check.log
	ALKNET_TESTS="${smoke[*]}" make -s check TESTS=tests/integration.sh >smoke.log 2>&1 || fail "$name: integration" smoke.log
	make -s install DESTDIR="$PWD/installed" >install.log 2>&1 || fail "$name: make install" install.log
	cd ../..
	rm -rf "switches/$name"
	echo "switches: without $name: good, $((SECONDS - from)) s"
}

for name in "${@:-}"; do
	[[ -z $name || $name == all || " ${parts[*]} " == *" $name "* ]] || {
		echo "switches: no part is called $name; there are: all ${parts[*]}"
		exit 2
	}
done
(($# > 0)) || set -- all "${parts[@]}"
for name; do
	if [[ $name == all ]]; then
		try all "${parts[@]/#/--without-}"
	else
		try "$name" "--without-$name"
	fi
done
rmdir switches 2>/dev/null || true
echo "switches: $# good in $((SECONDS - started)) s"
