#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What the skeleton's README says: with nothing but an installed alknet and a copy of the directory, make
# builds a plugin, and the loader takes it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
umask 022
chmod 755 "$dir"

# The headers, the library and the .pc, as `make install` puts them.
env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -C "$ALKNET_BUILDDIR" -s DESTDIR="$dir/root" \
	install-libLTLIBRARIES install-alknetincludeHEADERS install-pkgconfigDATA >/dev/null
pc=$(find "$dir/root" -name alknet.pc)
[ -n "$pc" ] || { echo "alknet.pc is not installed"; exit 1; }

mkdir "$dir/mine"
cp "$ALKNET_SRCDIR"/src/plugins/skeleton/{skeleton.c,Makefile} "$dir/mine"
chmod -R u+w "$dir/mine"
flags=
[ "$ALKNET_SANITIZERS" != yes ] || flags=-fsanitize=address,undefined
export PKG_CONFIG_LIBDIR PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
PKG_CONFIG_LIBDIR=$(dirname "$pc")
PKG_CONFIG_PATH=
PKG_CONFIG_SYSROOT_DIR=$dir/root
env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -C "$dir/mine" -s CC="$CC" CFLAGS="-O2 -Wall -Wextra -Werror $flags" LDFLAGS="$flags"

symbols=$(nm -D --defined-only "$dir/mine/skeleton.so" | awk '$3 !~ /^__odr_asan/ { print $3 }')
[ "$symbols" = alk_plugin ] || { echo "skeleton.so exports more than alk_plugin: $symbols"; exit 1; }

export LD_LIBRARY_PATH=$ALKNET_LIBDIR
"$ALKNET_BUILDDIR/tests/load/load_check" "$dir/mine/skeleton.so"

# Under another name it is another plugin.
mv "$dir/mine/skeleton.so" "$dir/mine/mine.so"
if out=$("$ALKNET_BUILDDIR/tests/load/load_check" "$dir/mine/mine.so" 2>&1); then
	echo "a plugin was taken that has not the name of its file"
	exit 1
fi
[[ $out == *'it calls itself "skeleton"'* ]] || { echo "$out"; exit 1; }
