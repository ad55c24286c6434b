#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The plugins under examples/: with nothing but an installed alknet and a copy of their directories, make builds them, and
# the real programs run on them: SSH over a unix socket, from alknet and from a stock ssh, to the service echo.
set -euo pipefail
dir=$(mktemp -d)
serving=
cleanup() {
	local code=$?
	[ -z "$serving" ] || kill -9 "$serving" 2>/dev/null || true
	[ "$code" = 0 ] || cat "$dir"/*.log || true
	rm -rf "$dir"
}
trap cleanup EXIT
umask 022
chmod 755 "$dir"
cd "$dir"
fail() { echo "$*"; exit 1; }
plain() { env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS "$@"; }

plain make -C "$ALKNET_BUILDDIR" -s DESTDIR="$dir/root" \
	install-libLTLIBRARIES install-alknetincludeHEADERS install-pkgconfigDATA >/dev/null
pc=$(find "$dir/root" -name alknet.pc)
[ -n "$pc" ] || fail "alknet.pc is not installed"
export PKG_CONFIG_LIBDIR PKG_CONFIG_PATH='' PKG_CONFIG_SYSROOT_DIR=$dir/root
PKG_CONFIG_LIBDIR=$(dirname "$pc")
flags=
[ "$ALKNET_SANITIZERS" != yes ] || flags=-fsanitize=address,undefined
mkdir -m 755 plugins
cp "$ALKNET_PLUGIN_DIR"/{tcp,forward}.so plugins
for name in unix echo; do
	cp -r "$ALKNET_SRCDIR/examples/$name" .
	chmod -R u+w "$name"
	plain make -C "$name" -s CC="$CC" CFLAGS="-O2 -Wall -Wextra -Werror $flags" LDFLAGS="$flags"
	symbols=$(nm -D --defined-only "$name/$name.so" | awk '$3 !~ /^__odr_asan/ { print $3 }')
	[ "$symbols" = alk_plugin ] || fail "$name.so exports more than alk_plugin: $symbols"
	# As `make install` would, into the directory of this test.
	plain make -C "$name" -s install PLUGINDIR="$dir/plugins"
done
chmod 755 plugins/*.so

for key in host user stranger; do ssh-keygen -q -t ed25519 -N '' -f "$key"; done
cp user.pub authorized
cat >policy.lua <<'END'
return {
	on_auth = function(request)
		if request.user == "echoer" then return "allow", { id = "echoer", scopes = { "may:echo" } } end
		return "pass"
	end,
	on_open = function(session, destination)
		if destination.host == "alknet-echo" then return "service", "echo" end
		return "forward"
	end,
}
END
export ALKNET_PLUGIN_DIR=$dir/plugins
awaits() { # PID LOG WORDS
	local deadline=$((SECONDS + 60))
	until grep -q "$3" "$2"; do
		kill -0 "$1" 2>/dev/null || fail "no \"$3\" before the end of $2"
		((SECONDS < deadline)) || fail "no \"$3\" in $2 after 60 s"
		read -rt 0.05 <><(:) || true
	done
}
serve() { # CONFIGURATION
	cat >alknet.conf <<<"return { transport = \"unix\", key = \"$dir/host\", authorized_keys = \"$dir/authorized\",
		policy = \"$dir/policy.lua\", admin_socket = \"$dir/admin.sock\", listen = { { transport = \"unix\", address = \"$dir/ssh.sock\" } }, $1 }"
	: >serve.log
	"$ALKNET" serve -c alknet.conf >serve.log 2>&1 &
	serving=$!
	awaits "$serving" serve.log "msg=\"listening\" transport=unix address=$dir/ssh.sock"
}
ends() {
	local pid=$serving
	kill "$pid"
	serving=
	wait "$pid" || fail "serve ended with status $?"
	[ ! -e ssh.sock ] || fail "the socket stays behind"
	! grep -E 'leak|Sanitizer|runtime error' serve.log || fail "serve left something"
}
# Standard input to a destination and back.
ask() { # USER KEY DESTINATION
	timeout 60 "$ALKNET" connect --transport unix --server "$dir/ssh.sock" --user "$1" --identity "$2" \
		--known-hosts known --stdio "$3" 2>connect.log
}
echo "$dir/ssh.sock $(cat host.pub)" >known

# Bytes go there and back, many of them; who has no key is told so.
serve ""
[ "$(stat -c %a ssh.sock)" = 600 ] || fail "the socket has mode $(stat -c %a ssh.sock)"
head -c 3000000 /dev/urandom >sent
ask somebody user alknet-echo:7 <sent >came || fail "echo: $(cat connect.log)"
cmp sent came
[ -z "$(ask somebody user alknet-echo:9 <sent)" ] || fail "discard answered"
if ask somebody user alknet-echo:8 </dev/null >came; then fail "port 8 was taken"; fi
if ask somebody stranger alknet-echo:7 <sent >came; then fail "a stranger was let in"; fi
grep -q "refused the key" connect.log || fail "a stranger was told: $(cat connect.log)"
uid=$(id -u)
grep -q "msg=\"connection opened\" remote_addr=uid:$uid transport=unix" serve.log || fail "not logged"

# The same by a stock ssh, which knows nothing of the socket.
cat >pipe.py <<'END'
import os, socket, sys, threading
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
def up():
    while data := os.read(0, 65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := sock.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
END
echo "somewhere $(cat host.pub)" >ssh_known
timeout 60 ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o UserKnownHostsFile=ssh_known -i user \
	-o ProxyCommand="$PYTHON pipe.py $dir/ssh.sock" -l somebody -W alknet-echo:7 somewhere <sent >came 2>ssh.log || fail "ssh failed"
cmp sent came

# A reload keeps the listener; a second server does not take a socket that is in use.
inode=$(stat -c %i ssh.sock)
kill -HUP "$serving"
awaits "$serving" serve.log 'msg="reloaded"'
[ "$(stat -c %i ssh.sock)" = "$inode" ] || fail "a reload made another socket"
[ "$(ask somebody user alknet-echo:7 <<<"again")" = again ] || fail "after a reload: $(cat connect.log)"
sed "s/admin\\.sock/admin2.sock/" alknet.conf >second.conf
if "$ALKNET" serve -c second.conf >second.log 2>&1; then fail "two servers at one socket"; fi
grep -q "cannot listen on $dir/ssh.sock: Address already in use" second.log || fail "the second server said: $(cat second.log)"

# One that was killed leaves its file, which the next one replaces; who lacks the scope is refused.
kill -9 "$serving"
wait "$serving" || true
[ -S ssh.sock ] || fail "no socket was left"
serve 'echo = { scope = "may:echo" }, unix = { mode = "0660" }'
[ "$(stat -c %a ssh.sock)" = 660 ] || fail "the socket has mode $(stat -c %a ssh.sock)"
if ask somebody user alknet-echo:7 <sent >came; then fail "the scope was not looked at"; fi
[ "$(ask echoer user alknet-echo:7 <<<"mine")" = mine ] || fail "the scope was not found: $(cat connect.log)"
ends

# Who is not in `uid` does not come as far as SSH.
serve "log_level = \"debug\", unix = { uid = { \"$((uid + 1))\", \"$((uid + 2))\" } }"
if ask somebody user alknet-echo:7 <sent >came; then fail "uid was not looked at"; fi
awaits "$serving" serve.log "uid $uid is not let in"
ends
serve "unix = { uid = { \"$((uid + 1))\", \"$uid\" } }"
[ "$(ask somebody user alknet-echo:7 <<<"listed")" = listed ] || fail "uid: $(cat connect.log)"
ends
