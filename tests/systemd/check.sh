#!/bin/bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The Debian packages under a real systemd, which is booted in a container: make check-systemd.
#
# Builds the packages (or takes ALKNET_DEBS), makes a Debian root with what they depend on (once, in
# ~/.cache/alknet-systemd), boots an overlay of it with systemd-nspawn and runs inside.sh there, with loopback alone.
# Needs root, debootstrap, systemd-container, and what packaging/build-deb needs; 77 is "skipped".
set -euo pipefail

skip() {
	echo "check-systemd: skipped: $*"
	exit 77
}

top=$(cd "$(dirname "$0")/../.." && pwd)
[ "$(id -u)" = 0 ] || skip "needs root"
for program in debootstrap systemd-nspawn nsenter dpkg-deb pgrep; do
	command -v $program >/dev/null || skip "$program is not installed"
done
debs=${ALKNET_DEBS:-}
work=$(mktemp -d)
nspawn=

finish() {
	if [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; then
		[ -z "${leader:-}" ] || kill -s RTMIN+3 "$leader" 2>/dev/null || true
		for _ in $(seq 150); do
			kill -0 "$nspawn" 2>/dev/null || break
			sleep 0.2
		done
		kill -9 "$nspawn" 2>/dev/null || true
	fi
	umount -l "$work/root" "$work/top" 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT

if [ -z "$debs" ]; then
	command -v dh >/dev/null || skip "debhelper is not installed; ALKNET_DEBS=DIRECTORY names packages that are built"
	debs=$work/debs
	echo "check-systemd: building the packages"
	"$top/packaging/build-deb" "$debs" >"$work/build.log" 2>&1 || {
		tail -n 40 "$work/build.log" >&2
		exit 1
	}
fi
debs=$(cd "$debs" && pwd)
program=$(ls "$debs"/alknet_*.deb)
library=$(ls "$debs"/libalknet0_*.deb)

# The root, with everything that the packages depend on, and without them.
# shellcheck disable=SC1091
. /etc/os-release
depends=$(dpkg-deb -f "$program" Depends; dpkg-deb -f "$library" Depends)
cache=${ALKNET_SYSTEMD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/alknet-systemd}/$(echo "$VERSION_CODENAME $depends" | sha256sum | cut -c1-16)
if [ ! -e "$cache/.done" ]; then
	# shellcheck disable=SC2016 # apt replaces it
	mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $VERSION_CODENAME" | head -n 1)
	[ -n "$mirror" ] || skip "apt knows no mirror of $VERSION_CODENAME"
	echo "check-systemd: making a root in $cache, once"
	rm -rf "$cache"
	mkdir -p "$cache"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,openssh-client,iproute2,procps,python3-minimal,libpython3-stdlib \
		"$VERSION_CODENAME" "$cache" "$mirror" >"$work/root.log" 2>&1 || {
		tail -n 20 "$work/root.log" >&2
		skip "debootstrap failed"
	}
	cp /etc/resolv.conf "$cache/etc/resolv.conf"
	mkdir "$cache/debs"
	cp "$program" "$library" "$cache/debs/"
	{
		chroot "$cache" apt-get install -y --no-install-recommends "/debs/${program##*/}" "/debs/${library##*/}" &&
			chroot "$cache" dpkg --purge alknet libalknet0 && chroot "$cache" apt-get clean
	} >"$work/root.log" 2>&1 || {
		tail -n 20 "$work/root.log" >&2
		exit 1
	}
	rm -rf "$cache/debs"
	touch "$cache/.done"
fi

mkdir "$work/top" "$work/root" "$work/in"
mount -t tmpfs tmpfs "$work/top"
mkdir "$work/top/upper" "$work/top/work"
mount -t overlay overlay -o "lowerdir=$cache,upperdir=$work/top/upper,workdir=$work/top/work" "$work/root"
cp "$program" "$library" "$top/tests/systemd/inside.sh" "$work/in/"
# What nspawn forbids and a machine does not: locked memory, landlock.
setsid systemd-nspawn -q -D "$work/root" -b --register=no --keep-unit -M "alknet-check-$$" --private-network --link-journal=no \
	--bind-ro="$work/in:/in" --capability=CAP_IPC_LOCK,CAP_SYS_RESOURCE \
	--system-call-filter="@memlock landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
	</dev/null >"$work/boot.log" 2>&1 &
nspawn=$!
for _ in $(seq 150); do
	leader=$(pgrep -P "$nspawn" -f systemd | head -n 1 || true)
	[ -z "$leader" ] || [ ! -S "/proc/$leader/root/run/systemd/private" ] || break
	kill -0 "$nspawn" 2>/dev/null || break
	sleep 0.2
done
if [ -z "${leader:-}" ] || [ ! -S "/proc/$leader/root/run/systemd/private" ]; then
	tail -n 20 "$work/boot.log" >&2
	skip "systemd-nspawn does not boot here"
fi
nsenter -t "$leader" -a env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8 SYSTEMD_PAGER= SYSTEMD_COLORS=0 \
	bash /in/inside.sh
