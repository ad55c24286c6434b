#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The addon's tests, against the build that runs this (`make check`): TAP of `node --test`, and its closing lines.
set -euo pipefail
dir=$ALKNET_BUILDDIR/bindings/node-addon
node=${NODE:-node}
mkdir -p "$dir"
export ALKNET_NAPI=$dir/alknet-napi.node
flags='-O2 -Werror'
if [ "${ALKNET_SANITIZERS:-}" = yes ]; then
	# The addon finds libasan in the process, which node itself knows nothing of.
	flags='-O1 -g -fsanitize=address,undefined'
	export ALKNET_NAPI_SHALLOW=1
	export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
	LD_PRELOAD=$(${CC##* } -print-file-name=libasan.so):$(${CC##* } -print-file-name=libubsan.so)
fi
env -u LD_PRELOAD ALKNET_BUILD="$ALKNET_BUILDDIR" ALKNET_NAPI_OUT="$dir" CFLAGS="$flags" "$node" "$ALKNET_SRCDIR/bindings/node/build.js"
[ -z "${LD_PRELOAD:-}" ] || export LD_PRELOAD
cd "$ALKNET_SRCDIR/bindings/node"
# test/harness.js ends a file that hangs, with the name of its test.
timeout --kill-after=10 1200 "$node" --test --test-reporter=tap test/*.test.js
