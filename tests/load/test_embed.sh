#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# What docs/EMBEDDING.md says: with nothing but an installed alknet, the examples compile and run.
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
compile() {
	# shellcheck disable=SC2086 # words
	$CC -O2 -Wall -Wextra -Wno-unused-parameter -Werror $flags "$ALKNET_SRCDIR/examples/$1.c" -o "$dir/$1" "${alknet[@]}" "${@:2}"
}
compile loopback
compile fetch -lev
compile serve -lev

for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$dir/$key"; done
export LD_LIBRARY_PATH=$ALKNET_LIBDIR
run() { env ALKNET_PLUGIN_DIR="$ALKNET_PLUGIN_DIR" timeout 60 "$dir/$1" "$dir/host" "$dir/$2" "$dir/user.pub" "${@:3}"; }
out=$(run loopback user)
[ "$out" = "hello through the tunnel" ] || { echo "the example printed: $out"; exit 1; }

# Who is not let in hears so.
ssh-keygen -q -t ed25519 -N '' -f "$dir/stranger"
out=$(run loopback stranger 2>&1)
[[ $out == *"the server refused the key"* ]] || { echo "the example printed: $out"; exit 1; }

# The short one, from a target that says a line, and from a port where nobody listens.
# speak SAYS FILE: a target, its port in FILE; its process is $target.
speak() {
	: >"$2"
	"$PYTHON" -c '
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer = listener.accept()[0]
listener.close()
peer.sendall(sys.argv[1].encode())
peer.close()' "$1" >"$2" &
	target=$!
	until [ -s "$2" ]; do kill -0 "$target"; done
}
speak $'bytes through the tunnel\n' "$dir/port"
trap 'kill "$target" 2>/dev/null || true; rm -rf "$dir"' EXIT
out=$(run fetch user 127.0.0.1 "$(cat "$dir/port")")
[ "$out" = "bytes through the tunnel" ] || { echo "the short example printed: $out"; exit 1; }
wait "$target"
fails() {
	local says=$1 out
	shift
	if out=$("$@" 2>&1); then echo "the short example did not fail: $out"; exit 1; fi
	[[ $out == *"$says"* ]] || { echo "the short example printed: $out"; exit 1; }
}
fails "refused" run fetch user 127.0.0.1 "$(cat "$dir/port")"
fails "the server refused the key" run fetch stranger 127.0.0.1 1
fails "PORT are missing" run fetch user

# The shortest, and a stock ssh that comes to it; it ends well on SIGTERM, and says what is wrong.
env ALKNET_PLUGIN_DIR="$ALKNET_PLUGIN_DIR" "$dir/serve" "$dir/host" "$dir/user.pub" 127.0.0.1:0 >"$dir/serving" 2>"$dir/serving.log" &
serving=$!
trap 'kill "$target" "$serving" 2>/dev/null || true; rm -rf "$dir"' EXIT
until grep -q "^listening on " "$dir/serving"; do kill -0 "$serving" || { cat "$dir/serving.log"; exit 1; }; done
port=$(sed -n 's/^listening on 127.0.0.1://p' "$dir/serving")
echo "[127.0.0.1]:$port $(cat "$dir/host.pub")" >"$dir/known"
speak $'bytes for ssh\n' "$dir/port"
out=$(timeout 60 env -u LD_LIBRARY_PATH ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o UserKnownHostsFile="$dir/known" -i "$dir/user" \
	-p "$port" -l somebody -W "127.0.0.1:$(cat "$dir/port")" 127.0.0.1 </dev/null)
[ "$out" = "bytes for ssh" ] || { echo "ssh through the shortest example: $out"; cat "$dir/serving.log"; exit 1; }
wait "$target"
kill "$serving"
wait "$serving" || { echo "the shortest example ended with status $?"; cat "$dir/serving.log"; exit 1; }
fails "listen" env ALKNET_PLUGIN_DIR="$ALKNET_PLUGIN_DIR" "$dir/serve" "$dir/host" "$dir/user.pub" 127.0.0.1:none
fails "are missing" "$dir/serve"
