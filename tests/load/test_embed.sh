#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What docs/EMBEDDING.md says: with nothing but an installed alknet, the example compiles and runs.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
umask 022
env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -C "$ALKNET_BUILDDIR" -s DESTDIR="$dir/root" \
	install-libLTLIBRARIES install-alknetincludeHEADERS install-pkgconfigDATA >/dev/null
pc=$(find "$dir/root" -name alknet.pc)
[ -n "$pc" ] || { echo "alknet.pc is not installed"; exit 1; }
export PKG_CONFIG_LIBDIR PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
PKG_CONFIG_LIBDIR=$(dirname "$pc")
PKG_CONFIG_PATH=
PKG_CONFIG_SYSROOT_DIR=$dir/root
flags=
[ "$ALKNET_SANITIZERS" != yes ] || flags=-fsanitize=address,undefined
read -ra alknet <<<"$(pkg-config --cflags --libs alknet)"
# shellcheck disable=SC2086 # words
$CC -O2 -Wall -Wextra -Werror $flags "$ALKNET_SRCDIR/examples/loopback.c" -o "$dir/loopback" "${alknet[@]}"

for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$dir/$key"; done
export LD_LIBRARY_PATH=$ALKNET_LIBDIR
run() { env ALKNET_PLUGIN_DIR="$ALKNET_PLUGIN_DIR" timeout 60 "$dir/loopback" "$dir/host" "$dir/$1" "$dir/user.pub"; }
out=$(run user)
[ "$out" = "hello through the tunnel" ] || { echo "the example printed: $out"; exit 1; }

# Who is not let in hears so.
ssh-keygen -q -t ed25519 -N '' -f "$dir/stranger"
out=$(run stranger 2>&1)
[[ $out == *"the server refused the key"* ]] || { echo "the example printed: $out"; exit 1; }
