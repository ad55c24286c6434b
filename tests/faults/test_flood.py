# SPDX-License-Identifier: MIT OR Apache-2.0
"""Connection floods before authentication (T2, T3, T6): those who have a key get in while they last."""

import subprocess
import sys
import time

import pytest

from harness.load import Load
from harness.waiting import patient, scaled, wait_until

# In processes of its own: a flood must not take the tests' interpreter. Words: port, address of the flood, kind.
FLOOD = r"""
import os, select, socket, sys, time
port, address, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
held, made = [], 0
def dial():
    sock = socket.socket()
    sock.bind((address, 0))
    sock.settimeout(1)
    sock.connect(("127.0.0.1", port))
    return sock
print("flooding", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        sock = dial()
        made += 1
        if kind == "garbage":
            sock.sendall(os.urandom(4096))
            sock.close()
            continue
        if kind == "slow":
            sock.sendall(b"SSH-2.0-slow\r\n\0\0\1\0")
        held.append(sock)
    except OSError:
        pass
    if kind == "slow":
        for sock in held[-20:]:
            try:
                sock.send(b"\0")
            except OSError:
                pass
    while len(held) > 200:
        held.pop(0).close()
print(made, flush=True)
"""


class Flood:
    def __init__(self, port, address, kind):
        self.popen = subprocess.Popen(
            [sys.executable, "-c", FLOOD, str(port), address, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        assert self.popen.stdout.readline() == "flooding\n"

    def stop(self):
        """Gives how many connections it made."""
        self.popen.stdin.close()
        made = int(self.popen.stdout.readline())
        self.popen.stdout.close()
        assert self.popen.wait(scaled(20)) == 0
        return made


@pytest.mark.parametrize("kind", ["slow", "half-open", "garbage", "all"])
def test_t02_logins_in_a_flood(server, client, ssh, targets, kind, size, sanitized):
    """With every limit at its default: each login of others takes less than 2 s, what flows goes on, and afterwards every counter is where
    it was. `handshake_timeout` alone is shorter, so that what the flood leaves behind is given up while the test waits for it."""
    serving = server("--handshake-timeout", "10", workers=2)
    load = Load(client(serving).port, targets)
    load.go_on()
    before = serving.memory()
    kinds = ["slow", "half-open", "garbage"] if kind == "all" else [kind]
    floods = [Flood(serving.port, f"127.0.9.{n + 1}", one) for n, one in enumerate(kinds)]
    times = []
    try:
        wait_until(
            lambda: serving.call("status")["links_refused"] > 50 or serving.metric("alknet_links_total") > 300, 20, "the flood to be felt",
        )
        for n in range(size(6, 60)):
            begun = time.monotonic()
            if n % 2:
                assert ssh.run(serving, "-W", f"127.0.0.1:{targets.http}", data=b"GET / HTTP/1.0\r\n\r\n").returncode == 0
            else:
                one = client(serving, "--stdio", f"127.0.0.1:{targets.echo}", socks5=None, wait=False)
                assert one.wait(20) == 0, one.log()
            times.append(time.monotonic() - begun)
        load.go_on()
        if not sanitized:
            assert serving.memory() - before < 32 << 20
    finally:
        made = [flood.stop() for flood in floods]
    assert all(made), made
    assert sorted(times)[len(times) // 2] < scaled(2) and max(times) < patient(7), f"logins took {[f'{t:.2f}' for t in times]} while {made} connections were made"
    assert load.stop() == 0, load.cut
    wait_until(lambda: serving.call("status")["startups"] == 0, 15, "the last handshakes to be given up")
    wait_until(lambda: serving.call("status")["links"] == 1, 15, "their links to be forgotten")
