#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Measure the bus beside mosquitto: the same load (bus_load.c) at both, in turns. README.md says how to read it.

    ALKNET=build/alknet ALKNET_PLUGIN_DIR=build/plugins/.libs tests/bench/bus.py [--rounds N]
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from harness import procs  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

CIPHER = "aes256-gcm@openssh.com"
EVENTS, EVENTS_WIDE, CALLS, IDLE = 300_000, 10_000, 10_000, 20_000


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Lab:
    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="alknet-bus."))
        self.load = self.dir / "bus_load"
        source = Path(__file__).resolve().parent / "bus_load.c"
        subprocess.run([os.environ.get("CC", "gcc"), "-O2", "-D_GNU_SOURCE", "-pthread", "-o", self.load, source], check=True)
        self.keys = procs.Keys(self.dir)
        self.running = []
        try:
            self.mosquitto_start()
            self.alknet_start()
        except BaseException:
            self.close()
            raise

    def mosquitto_start(self):
        self.dir.chmod(0o755)
        port, forwarded = free_port(), free_port()
        sock = self.dir / "mosquitto.sock"
        conf = self.dir / "mosquitto.conf"
        # As one that is not to drop anything: bounded by our own window.
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        conf.write_text(f"user {user}\nlistener {port} 127.0.0.1\nallow_anonymous true\nlistener 0 {sock}\nallow_anonymous true\n"
                        "max_queued_messages 0\nset_tcp_nodelay true\n")
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.mosquitto = procs.Program([binary, "-c", conf], self.dir / "mosquitto.log")
        self.running.append(self.mosquitto)
        wait_until(lambda: connects(port), 20, "mosquitto")
        sshd = procs.start_sshd(self.keys, self.dir, f"Ciphers {CIPHER}", "sshd")
        self.running.append(sshd)
        argv = ["ssh", "-F", "none", "-N", "-p", str(sshd.port), "-l", user, "-i", self.keys.path("user"), "-o", f"Ciphers={CIPHER}",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes",
                "-o", "BatchMode=yes", "-L", f"127.0.0.1:{forwarded}:127.0.0.1:{port}", "127.0.0.1"]
        self.running.append(procs.Program([str(a) for a in argv], self.dir / "ssh.log"))
        wait_until(lambda: connects(forwarded), 20, "ssh -L")
        self.mqtt_tcp, self.mqtt_unix, self.mqtt_ssh = f"127.0.0.1:{port}", f"unix:{sock}", f"127.0.0.1:{forwarded}"

    def alknet_start(self):
        here, there = self.dir / "bus.sock", self.dir / "far.sock"
        conf = self.dir / "alknet.conf"
        conf.write_text(f'return {{ key = "{self.keys.path("host")}", authorized_keys = "{self.keys.authorized}", '
                        f'listen = {{"127.0.0.1:0"}}, admin_socket = "{self.dir}/admin.sock", max_channels = 1024, '
                        f'bus = {{ listen = "unix:{here}", max_subscriptions = 100000 }} }}\n')
        self.server = procs.Server([procs.alknet(), "serve", "-c", conf], self.dir / "serve.log")
        self.running.append(self.server)
        self.server.find_port()
        argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{self.server.port}", "--identity", self.keys.path("user"),
                "--user", "bench", "--accept-new-host-key", "--known-hosts", self.dir / "known", "--socks5", "none", "--bus", f"unix:{there}"]
        client = procs.Program([str(a) for a in argv], self.dir / "connect.log")
        self.running.append(client)
        wait_until(there.exists, 20, "the client's bus")
        client.wait_log("event bus on")
        self.bus_unix, self.bus_ssh = f"unix:{here}", f"unix:{there}"

    def place(self, cores):
        for program in self.running:
            for pid in procs.tree(program.pid):
                os.sched_setaffinity(pid, cores)

    def ask(self, protocol, address, *args):
        argv, cores = [self.load, protocol, address, *map(str, args)], os.sched_getaffinity(0)
        if "rpc" in args and len(cores) > 1:
            # Where the scheduler puts four sleepers on few cores is most of the time otherwise, and luck.
            first = min(cores)
            self.place(cores - {first})
            argv = ["taskset", "-c", str(first), *argv]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        if "rpc" in args:
            self.place(cores)
        if done.returncode != 0:
            raise SystemExit(f"{protocol} {address} {args}: {done.stderr}")
        return [float(x) for x in done.stdout.split()]

    def idle(self):
        """Bytes that a subscription costs the server, all its processes together."""
        before = self.server.memory()
        holding = subprocess.Popen([self.load, "frames", self.bus_unix, "hold", str(IDLE)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        assert holding.stdout.readline() == "ready\n"
        grown = self.server.memory() - before
        holding.communicate("\n")
        return grown / IDLE

    def close(self):
        while self.running:
            self.running.pop().kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("-r", "--rounds", type=int, default=3)
    args.add_argument("-w", "--what", default="1:1,1:100,rpc,idle", help="which of these")
    args.add_argument("-q", "--quick", action="store_true", help="a twentieth of it: does it all run?")
    args = args.parse_args()
    part = 20 if args.quick else 1
    lab, rows = Lab(), {}
    try:
        for _ in range(args.rounds):
            for name, protocol, address, what in (
                ("events", "mqtt", lab.mqtt_tcp, "mosquitto, TCP"), ("events", "mqtt", lab.mqtt_unix, "mosquitto, unix"),
                ("events", "frames", lab.bus_unix, "alknet, local socket"),
                ("events", "mqtt", lab.mqtt_ssh, "mosquitto, ssh -L"), ("events", "frames", lab.bus_ssh, "alknet, tunnel"),
            ):
                for measure, argv in (("1:1", (name, EVENTS // part, 128, 1)), ("1:100", (name, EVENTS_WIDE // part, 128, 100)),
                                      ("rpc", ("rpc", CALLS // part))):
                    if measure in args.what.split(","):
                        rows.setdefault((measure, what), []).append(lab.ask(protocol, address, *argv)[0])
        idle = lab.idle() if "idle" in args.what else None
    finally:
        lab.close()
    middle = {key: statistics.median(values) for key, values in rows.items()}
    for (name, what), value in sorted(middle.items()):
        unit = "us p50" if name == "rpc" else "events/s"
        print(f"{name:6} {what:22} {value:12.0f} {unit:9} {' '.join(f'{v:.0f}' for v in rows[(name, what)])}")
    goals = []
    for measure, far, near, more in (("1:1", 1.0, 0.8, True), ("1:100", 1.0, 0.8, True), ("rpc", 1.3, 1.3, False)):
        if (measure, "alknet, tunnel") not in middle:
            continue
        own = (max if more else min)(middle[(measure, "mosquitto, TCP")], middle[(measure, "mosquitto, unix")])
        goals.append((f"{measure} through the tunnel, of mosquitto's through ssh -L",
                      middle[(measure, "alknet, tunnel")] / middle[(measure, "mosquitto, ssh -L")], far, more))
        goals.append((f"{measure} at the local socket, of mosquitto's at its better one", middle[(measure, "alknet, local socket")] / own, near, more))
    if idle is not None:
        print(f"idle   a subscription         {idle:12.0f} bytes")
        goals.append(("KiB an idle subscription", idle / 1024, 1.0, False))
    for name, value, goal, more in goals:
        reached = value >= goal if more else value <= goal
        print(f"{'reached' if reached else 'MISSED ':8} {name}: {value:.2f} ({'at least' if more else 'at most'} {goal})")


if __name__ == "__main__":
    main()
