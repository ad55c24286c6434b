#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Runs as root in the container that check.sh booted: the packages are in /in, nothing else is prepared. The commands are those of
# docs/OPERATIONS.md.
# shellcheck disable=SC2317 # functions that are called by await
set -euo pipefail

part=start

say() {
	part=$*
	echo "check-systemd: $*"
}

fail() {
	echo "check-systemd: FAILED: $part: $*" >&2
	journalctl -b -o short-precise -n 60 -u 'alknet*' >&2 || true
	exit 1
}
trap 'fail "line $LINENO"' ERR

# Looks until the command succeeds, for a minute.
await() {
	local tries=600
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || fail "waited for: $*"
		sleep 0.1
	done
}

of() { # UNIT PROPERTY
	systemctl show -p "$2" --value "$1"
}

is() { # UNIT PROPERTY VALUE
	[ "$(of "$1" "$2")" = "$3" ]
}

has() { # TEXT COMMAND...
	local text=$1
	shift
	"$@" 2>&1 | grep -q -e "$text"
}

hasnt() {
	! has "$@"
}

ssh=(ssh -F none -i /root/id_ed25519 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p 2222 tester@127.0.0.1)

comes_in() { # through the server, to its own port: a banner
	[ "$("${ssh[@]}" -W 127.0.0.1:2222 </dev/null | head -c 14)" = SSH-2.0-alknet ]
}

workers() {
	alknet-admin status --json | python3 -c 'import json, sys; print(*[w["pid"] for w in json.load(sys.stdin)["workers"] if w["pid"]])'
}

say "the machine is up"
await systemctl is-system-running --wait

say "install: nothing starts by itself"
dpkg -i /in/libalknet0_*.deb /in/alknet_*.deb >/dev/null
is alknet.service ActiveState inactive
[ "$(systemctl is-enabled alknet.service || true)" = disabled ]

say "configure"
install -d -m 755 /etc/alknet
ssh-keygen -q -t ed25519 -N '' -f /etc/alknet/host_key
ssh-keygen -q -t ed25519 -N '' -f /root/id_ed25519
cat /root/id_ed25519.pub >>/etc/alknet/authorized_keys
cp /usr/share/alknet/alknet.conf /etc/alknet/alknet.conf
sed -i 's/^return {/return { penalty_exempt = { "127.0.0.0\/8", "::1" },/' /etc/alknet/alknet.conf
alknet check -c /etc/alknet/alknet.conf >/dev/null

say "the pages lead somewhere"
cat >/root/pages.py <<'END'
import pathlib, re
links = 0
for page in pathlib.Path("/usr/share/doc/alknet").rglob("*.md"):
    for target in re.findall(r"\]\(([A-Za-z0-9_./-]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), (page, target)
        links += 1
assert links > 30, links
END
python3 /root/pages.py

say "the units are good"
systemd-analyze verify --man=no alknet.service alknet.socket alknet-connect@work.service
systemd-analyze security --threshold=20 alknet.service >/dev/null
systemd-analyze security --threshold=20 alknet-connect@work.service >/dev/null

say "start: it returns when links are taken"
systemctl enable --now alknet.service 2>/dev/null
comes_in
is alknet.service StatusText "0 sessions"
has 'kind="seccomp, landlock' journalctl -u alknet
hasnt "level=warn" journalctl -u alknet
main=$(of alknet MainPID)
[ "$(stat -c %a /etc/alknet/host_key)" = 600 ]
for pid in $main $(workers); do
	[ "$(stat -c %u "/proc/$pid")" != 0 ]
	grep -q '^CapEff:.*0400$' "/proc/$pid/status"
	grep -q '^NoNewPrivs:.*1$' "/proc/$pid/status"
done
for pid in $(workers); do
	[ "$(cat "/proc/$pid/comm")" = alknet-worker ]
done

say "status: how many sessions"
"${ssh[@]}" -N &
session=$!
await is alknet.service StatusText "1 sessions"

say "reload: no session is cut, a bad file changes nothing and says why"
systemctl reload alknet
has "generation  *2" alknet-admin status
cp /etc/alknet/alknet.conf /root/good.conf
echo 'return { nonsense = 1 }' >/etc/alknet/alknet.conf
if systemctl reload alknet 2>/dev/null; then fail "a bad file was taken"; fi
has "alknet-admin.*nonsense: there is no such option" journalctl -u alknet
cp /root/good.conf /etc/alknet/alknet.conf
is alknet.service ActiveState active
is alknet.service MainPID "$main"
kill -0 $session

say "upgrade: another main process, the session goes on"
alknet-admin upgrade >/dev/null
[ "$(of alknet MainPID)" != "$main" ]
comes_in
kill -0 $session
await is alknet.service StatusText "0 sessions"
kill $session
wait $session || true
await hasnt . ls "/proc/$main/task"
is alknet.service NRestarts 0
is alknet.service ActiveState active
systemctl reload alknet
hasnt "reception only permitted" journalctl -u alknet

say "a worker that hangs is replaced by the server"
mkdir -p /etc/systemd/system/alknet.service.d
printf '[Service]\nWatchdogSec=3\n' >/etc/systemd/system/alknet.service.d/watchdog.conf
systemctl daemon-reload
sed -i 's/^return {/return { watchdog_timeout = "2s",/' /etc/alknet/alknet.conf
systemctl restart alknet
main=$(of alknet MainPID)
read -r first _ <<<"$(workers)"
kill -STOP "$first"
await has "worker restarts  *1" alknet-admin status
comes_in
is alknet.service MainPID "$main"

say "a server that hangs is replaced by systemd"
kill -STOP "$main"
await is alknet.service NRestarts 1
await is alknet.service ActiveState active
has "Watchdog timeout" journalctl -u alknet
comes_in

say "a server that dies takes its workers with it, and is started again"
old="$(of alknet MainPID) $(workers)"
kill -9 "${old%% *}"
await is alknet.service NRestarts 2
await is alknet.service ActiveState active
for pid in $old; do
	[ ! -e "/proc/$pid" ]
done
comes_in

say "stop: sessions are told, and it ends well"
"${ssh[@]}" -N 2>/root/told &
session=$!
await has "sessions  *1" alknet-admin status
systemctl stop alknet
wait $session || true
grep -q "the server stops" /root/told
is alknet.service Result success
is alknet.service ExecMainStatus 0

say "stop: shutdown_timeout lets sessions go on"
cp /root/good.conf /etc/alknet/alknet.conf
sed -i 's/^return {/return { shutdown_timeout = "20s",/' /etc/alknet/alknet.conf
systemctl start alknet
"${ssh[@]}" -N &
session=$!
await is alknet.service StatusText "1 sessions"
systemctl stop --no-block alknet
await is alknet.service StatusText "draining: 1 sessions"
kill $session
await is alknet.service ActiveState inactive
is alknet.service Result success

say "socket: the port is open before the server, and while it is installed and started anew"
rm -r /etc/systemd/system/alknet.service.d
mkdir /etc/systemd/system/alknet.socket.d
printf '[Socket]\nListenStream=\nListenStream=2222\n' >/etc/systemd/system/alknet.socket.d/port.conf
systemctl daemon-reload
cp /root/good.conf /etc/alknet/alknet.conf
sed -i -e 's/listen = .*/listen = { "fd:ssh" },/' -e 's/^return {/return { log_target = "journal",/' /etc/alknet/alknet.conf
systemctl enable --now alknet.socket 2>/dev/null
is alknet.service ActiveState inactive
comes_in
is alknet.service ActiveState active
cat >/root/connect.py <<'END'
import os, socket
done = refused = 0
while not os.path.exists("/root/enough"):
    try:
        with socket.create_connection(("127.0.0.1", 2222), timeout=60) as sock:
            done += sock.recv(4) == b"SSH-"
    except ConnectionRefusedError:
        refused += 1
    except OSError:
        pass  # taken by the server that ended
    with open("/root/count.new", "w") as count:
        print(done, refused, file=count)
    os.replace("/root/count.new", "/root/count")
END
python3 /root/connect.py &
connecting=$!
await test -s /root/count
for _ in 1 2 3; do
	read -r before _ </root/count
	dpkg -i /in/libalknet0_*.deb /in/alknet_*.deb >/dev/null
	systemctl restart alknet
	more() { read -r n _ </root/count && [ "$n" -gt $((before + 20)) ]; }
	await more
done
alknet-admin upgrade >/dev/null
read -r before _ </root/count
await more
touch /root/enough
wait $connecting
read -r connected refused </root/count
echo "check-systemd: $connected connections, $refused refused"
[ "$refused" = 0 ]

say "journal: fields, of the server and of its workers"
comes_in
json() { journalctl -o json -n 1 "$@"; }
await has '"ALKNET_REMOTE_ADDR":"127.0.0.1"' json ALKNET_MSG="auth attempt" ALKNET_RESULT=accept
has '"PRIORITY":"6"' json ALKNET_MSG="auth attempt" ALKNET_USER=tester
has '"_SYSTEMD_UNIT":"alknet.service"' json ALKNET_MSG="auth attempt" ALKNET_USER=tester
has '"_COMM":"alknet-worker"' json ALKNET_MSG="auth attempt" ALKNET_USER=tester
has '"ALKNET_ADDRESS"' json ALKNET_MSG=listening SYSLOG_IDENTIFIER=alknet

say "connect: a client a profile, ready with its first session"
install -d /etc/alknet/connect
ssh-keygen -q -t ed25519 -N '' -f /etc/alknet/connect/work.key
cat /etc/alknet/connect/work.key.pub >>/etc/alknet/authorized_keys
systemctl reload alknet
cat >/etc/alknet/connect/work.conf <<END
return { server = "127.0.0.1:2222", user = "work", socks5 = "127.0.0.1:1080",
	host_key_fingerprint = "$(ssh-keygen -lf /etc/alknet/host_key.pub | cut -d' ' -f2)" }
END
systemctl enable --now alknet-connect@work 2>/dev/null
is alknet-connect@work StatusText "connected to 127.0.0.1:2222"
cat >/root/socks.py <<'END'
import socket, struct
with socket.create_connection(("127.0.0.1", 1080), timeout=60) as sock:
    sock.sendall(b"\5\1\0")
    assert sock.recv(2) == b"\5\0"
    sock.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + struct.pack(">H", 2222))
    assert sock.recv(10)[:2] == b"\5\0"
    assert sock.recv(4) == b"SSH-"
END
python3 /root/socks.py
client=(--socket /run/alknet-connect-work/admin.sock)
alknet-admin health "${client[@]}" >/dev/null
systemctl reload alknet-connect@work
await alknet-admin health "${client[@]}"
systemctl restart alknet
await python3 /root/socks.py
await is alknet-connect@work StatusText "connected to 127.0.0.1:2222"
is alknet-connect@work NRestarts 0
systemctl stop alknet-connect@work
is alknet-connect@work Result success

say "connect: what cannot come up says why"
sed -i 's/SHA256:...../SHA256:AAAAA/' /etc/alknet/connect/work.conf
if timeout 30 systemctl start alknet-connect@work 2>/dev/null; then fail "it took another host key"; fi
has "AAAAA" journalctl -u alknet-connect@work
systemctl stop alknet-connect@work

say "remove"
dpkg -r alknet libalknet0 >/dev/null
[ ! -e /usr/bin/alknet ] && [ -e /etc/alknet/host_key ]
say "all held"
