#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# All traffic through the tunnel with the real tun2proxy, in namespaces: make check-tun.
#
#   client: alknet connect, tun-up, curl, git ──veth── server: alknet serve, a web server behind it
#
# A firewall in the client's namespace counts (and drops) every packet on the veth that is not the tunnel's.
set -eu

skip() {
	echo "check-tun: skipped: $*"
	exit 77
}

fail() {
	echo "check-tun: FAILED: $*" >&2
	for log in "$DIR"/*.log; do
		echo "--- $log" >&2
		tail -n 20 "$log" >&2
	done
	exit 1
}

if [ "${1:-}" != inside ]; then
	[ "$(id -u)" = 0 ] || skip "needs root"
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	for program in ip nft curl git python3 ssh-keygen unshare nsenter; do
		command -v $program >/dev/null || skip "$program is not installed"
	done
	CACHE=${ALKNET_TUN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alknet-tun2proxy}
	TUN2PROXY=${TUN2PROXY:-$(command -v tun2proxy-bin || echo "$CACHE/bin/tun2proxy-bin")}
	if [ ! -x "$TUN2PROXY" ]; then
		command -v cargo >/dev/null || skip "neither tun2proxy-bin nor cargo is installed"
		echo "check-tun: building tun2proxy into $CACHE; this takes a while, once"
		nice -n 19 cargo install --locked tun2proxy -j1 --root "$CACHE" || skip "tun2proxy does not build here"
	fi
	export TUN2PROXY
	DIR=$(mktemp -d)
	export DIR
	status=0
	unshare --net --mount --pid --fork --mount-proc --kill-child sh "$0" inside || status=$?
	rm -rf "$DIR"
	exit $status
fi

SCRIPTS=${ALKNET_SRCDIR:-$(dirname "$0")/../..}/scripts
export ALKNET_TUN_STATE="$DIR/state"

# Looks until the command succeeds, for 20 s.
await() {
	tries=200
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || fail "waited for: $*"
		sleep 0.1
	done
}

# The client's namespace is held by a process; it keeps the mounts of before.
# shellcheck disable=SC2016 # expanded in there
unshare --net --mount sh -c 'echo $$ >"$DIR/pid"; exec sleep infinity' &
await test -s "$DIR/pid"
PID=$(cat "$DIR/pid")
client() {
	nsenter --net --mount --target "$PID" "$@"
}

ip link set lo up
client ip link set lo up
ip link add veth0 type veth peer name veth1 netns "$PID"
client sysctl -q net.ipv6.conf.veth1.disable_ipv6=1
ip address add 192.0.2.1/30 dev veth0
ip link set veth0 up
client ip address add 192.0.2.2/30 dev veth1
client ip link set veth1 up
client ip route add default via 192.0.2.1
ip address add 203.0.113.10/32 dev lo
ip -6 address add 2001:db8::10/128 dev lo nodad
echo "203.0.113.10 www.alknet.test" >"$DIR/hosts"
mount --bind "$DIR/hosts" /etc/hosts

mkdir "$DIR/www" "$DIR/work"
echo "behind the tunnel" >"$DIR/www/page"
git -C "$DIR/work" init -q -b main
git -C "$DIR/work" -c user.name=t -c user.email=t@example.com commit -q --allow-empty -m "a commit"
git clone -q --bare "$DIR/work" "$DIR/www/repo.git"
git -C "$DIR/www/repo.git" update-server-info
for address in 203.0.113.10 2001:db8::10; do
	python3 -u -m http.server -b $address -d "$DIR/www" 80 >"$DIR/http.$address.log" 2>&1 &
done

await curl -sS -m 2 http://203.0.113.10/page
await curl -sS -g -m 2 'http://[2001:db8::10]/page'

ssh-keygen -q -t ed25519 -N '' -f "$DIR/host"
ssh-keygen -q -t ed25519 -N '' -f "$DIR/user"
"$ALKNET" serve --key "$DIR/host" --authorized-keys "$DIR/user.pub" --listen 192.0.2.1:2222 \
	--admin-socket none >"$DIR/serve.log" 2>&1 &
await grep -q 'msg="*listening' "$DIR/serve.log"
echo "[192.0.2.1]:2222 $(cat "$DIR/host.pub")" >"$DIR/known"
client "$ALKNET" connect --server 192.0.2.1:2222 --identity "$DIR/user" --known-hosts "$DIR/known" \
	--socks5 127.0.0.1:1080 >"$DIR/connect.log" 2>&1 &
await grep -q "SOCKS5 and HTTP proxy on" "$DIR/connect.log"

client nft -f - <<END
table inet check {
	counter outside { }
	chain output {
		type filter hook output priority 0;
		oifname "veth1" ip daddr 192.0.2.1 tcp dport 2222 accept
		oifname "veth1" counter name outside drop
	}
}
END
outside() {
	client nft list counter inet check outside | sed -n 's/.*packets \([0-9]*\).*/\1/p'
}

resolv=$(client cat /etc/resolv.conf | cksum)
up() {
	client "$SCRIPTS/tun-up" -s 192.0.2.1 >>"$DIR/tun.log" 2>&1 &
	await grep -q ready=yes "$ALKNET_TUN_STATE"
}
is_undone() {
	[ ! -e "$ALKNET_TUN_STATE" ] && ! client ip link show dev alknet0 >/dev/null 2>&1 &&
		[ -z "$(client ip rule show pref 7381)$(client ip rule show pref 7380)" ] &&
		[ -z "$(client ip -6 rule show pref 7381)" ] &&
		[ "$(client cat /etc/resolv.conf | cksum)" = "$resolv" ]
}

up
echo "check-tun: a name"
[ "$(client curl -sS -m 30 http://www.alknet.test/page)" = "behind the tunnel" ] || fail "curl of a name"
echo "check-tun: IPv4 and IPv6 addresses"
[ "$(client curl -sS -m 30 http://203.0.113.10/page)" = "behind the tunnel" ] || fail "curl of an IPv4 address"
[ "$(client curl -sS -g -m 30 'http://[2001:db8::10]/page')" = "behind the tunnel" ] || fail "curl of an IPv6 address"
echo "check-tun: git clone"
client git clone -q http://www.alknet.test/repo.git "$DIR/clone" || fail "git clone"
[ "$(git -C "$DIR/clone" log --format=%s)" = "a commit" ] || fail "the clone is not whole"
[ "$(outside)" = 0 ] || fail "$(outside) packets left outside of the tunnel"

echo "check-tun: what a crash leaves is undone"
kill -9 "$(sed -n 's/^up=//p' "$ALKNET_TUN_STATE")"
client "$SCRIPTS/tun-down" || fail "tun-down after a crash"
is_undone || fail "tun-down left something"
client "$SCRIPTS/tun-down" || fail "tun-down a second time"
up
kill -9 "$(sed -n 's/^up=//p' "$ALKNET_TUN_STATE")" "$(sed -n 's/^child=//p' "$ALKNET_TUN_STATE")"
rm -f "$DIR/old"
mv "$ALKNET_TUN_STATE" "$DIR/old"
sed '/^ready=/d' "$DIR/old" >"$ALKNET_TUN_STATE"
up
[ "$(client curl -sS -m 30 http://www.alknet.test/page)" = "behind the tunnel" ] || fail "curl after a crash"
[ "$(outside)" = 0 ] || fail "$(outside) packets left outside of the tunnel"

echo "check-tun: and so is an end"
kill "$(sed -n 's/^up=//p' "$ALKNET_TUN_STATE")"
await is_undone
client curl -sS -m 2 http://203.0.113.10/page >/dev/null 2>&1 && fail "a way out without the tunnel"
[ "$(outside)" -gt 0 ] || fail "the firewall counts nothing"
echo "check-tun: passed"
