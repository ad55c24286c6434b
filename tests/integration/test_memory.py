# SPDX-License-Identifier: MIT OR Apache-2.0
"""Back-pressure: memory stays where it is while one side stalls, and nobody else waits for it."""

import select
import socket
import subprocess
import threading
import time

import pytest

from conftest import PAIRS
from harness import net, sshwire
from harness.procs import cpu_seconds
from harness.waiting import Settled, scaled, wait_until

MB = 1000 * 1000
GROWTH = 4 << 20
OFFERED = 10 * 1000 * MB


def warm(pair, targets):
    """The first connection pays for lazy work (symbols, resolver, buffers)."""
    for _ in range(3):
        with pair.connect(targets.echo, host="localhost") as sock:
            for _ in range(50):
                net.ask_echo(sock, b"w" * 1000)
    wait_until(Settled(lambda: sum(pair.memory()), 10, 1 << 16), 20, "memory to settle")


def check_growth(pair, before, sanitized, what):
    # AddressSanitizer keeps shadow memory and freed blocks: there only "without bound" can be told.
    bound = 64 << 20 if sanitized else GROWTH
    for program, old, new in zip(pair.ours, before, pair.memory()):
        assert new - old <= bound, f"{what}: {program.argv[1]} grew by {(new - old) / 1e6:.1f} MB"


def check_neighbours(pair, targets):
    """Other channels of the same session keep working, at speed, and new ones open."""
    with pair.connect(targets.echo) as sock:
        times = []
        for _ in range(200):
            start = time.monotonic()
            net.ask_echo(sock)
            times.append(time.monotonic() - start)
        assert sorted(times)[150] < scaled(0.25), "round trips beside a stalled channel"
    with pair.connect(targets.source) as sock:
        sock.sendall(b"%d\n" % (50 * MB))
        got = 0
        for piece in net.pattern(50 * MB):
            assert net.recv_exact(sock, len(piece)) == piece
            got += len(piece)
        assert got == 50 * MB
    with pair.connect(targets.sink) as sock:
        for piece in net.pattern(50 * MB):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_line(sock).split() == [b"%d" % (50 * MB), net.pattern_sha256(50 * MB).encode()]


class Offer:
    """Writes the pattern as fast as it is taken, until told to stop."""

    def __init__(self, sock, total=OFFERED):
        self.sock, self.total, self.sent, self.enough = sock, total, 0, False
        self.digest = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.sock.setblocking(False)
        try:
            for piece in net.pattern(self.total):
                at = 0
                while at < len(piece):
                    if self.enough:
                        return
                    if not select.select([], [self.sock], [], 0.2)[1]:
                        continue
                    try:
                        n = self.sock.send(piece[at:])
                    except BlockingIOError:
                        continue
                    at += n
                    self.sent += n
        except OSError:
            return

    def stop(self):
        self.enough = True
        self.thread.join(scaled(20))
        assert not self.thread.is_alive()
        self.sock.settimeout(scaled(60))
        return self.sent


@pytest.mark.parametrize("name", PAIRS)
def test_t24_slow_target(make_pair, targets, sanitized, name):
    """A target that stops reading: the window closes, memory is flat, all is there when it wakes."""
    pair = make_pair(name)
    warm(pair, targets)
    before = pair.memory()
    with pair.connect(targets.slow) as sock:
        woken = f"slow-{name}-{sock.fileno()}-{time.monotonic_ns()}"
        sock.sendall(woken.encode() + b"\n")
        offer = Offer(sock)
        wait_until(Settled(lambda: offer.sent, 60), 60, "the writer to be stopped")
        assert 0 < offer.sent < 64 * MB
        check_growth(pair, before, sanitized, "slow target")
        check_neighbours(pair, targets)
        check_growth(pair, before, sanitized, "slow target, neighbours at work")
        sent = offer.stop()
        sock.shutdown(socket.SHUT_WR)
        targets.wake(woken)
        assert net.recv_line(sock).split() == [b"%d" % sent, net.pattern_sha256(sent).encode()]


@pytest.mark.parametrize("name", PAIRS)
def test_t24_dripping_target(make_pair, targets, sanitized, name):
    """A target that reads a little at a time: the window is not opened beyond what it takes."""
    pair = make_pair(name)
    warm(pair, targets)
    before = pair.memory()
    with pair.connect(targets.drip) as sock:
        woken = f"drip-{name}-{time.monotonic_ns()}"
        sock.sendall(woken.encode() + b"\n")
        offer = Offer(sock)
        wait_until(lambda: targets.stat("read", woken) > 150 * 1024, 60, "the target to read 150 KiB")
        check_growth(pair, before, sanitized, "dripping target")
        sent = offer.stop()
        assert sent < 64 * MB
        sock.shutdown(socket.SHUT_WR)
        targets.wake(woken)
        assert net.recv_line(sock).split() == [b"%d" % sent, net.pattern_sha256(sent).encode()]


@pytest.mark.parametrize("name", PAIRS)
def test_t23_slow_reader(make_pair, targets, sanitized, name):
    """An application that stops reading with 10 GB offered to it."""
    pair = make_pair(name)
    warm(pair, targets)
    before = pair.memory()
    with pair.connect(targets.source) as sock:
        sock.sendall(b"%d\n" % OFFERED)
        wait_until(lambda: net.waiting_bytes(sock) > 0, 20, "the first bytes")
        wait_until(Settled(lambda: net.waiting_bytes(sock), 60), 60, "the stream to stop")
        check_growth(pair, before, sanitized, "stalled reader")
        check_neighbours(pair, targets)
        check_growth(pair, before, sanitized, "stalled reader, neighbours at work")
        taken = 0
        for piece in net.pattern(100 * MB):
            assert net.recv_exact(sock, len(piece)) == piece
            taken += len(piece)
        assert taken == 100 * MB
        check_growth(pair, before, sanitized, "reader that woke")


def test_t23_peer_that_does_not_read_its_socket(server, targets, keys, sanitized):
    """The SSH side itself stalls, windows wide open: the server stops reading targets; others go on."""
    serving = server()
    key = sshwire.load_key(keys.path("user"))
    with sshwire.Wire(serving.port) as warm_up:
        channel, _ = warm_up.login(key).open_channel(1, "127.0.0.1", targets.echo)
        warm_up.data(channel, b"hello")
        warm_up.read(5)
    before = serving.memory()
    with sshwire.Wire(serving.port, receive_buffer=65536) as wire, sshwire.Wire(serving.port) as other:
        wire.login(key)
        for n in range(8):
            channel, _ = wire.open_channel(n, "127.0.0.1", targets.source, window=1 << 31, packet=32768)
            wire.data(channel, b"%d\n" % OFFERED)
        wait_until(Settled(lambda: net.waiting_bytes(wire.sock), 60), 60, "the stream to stop")
        bound = 64 << 20 if sanitized else GROWTH
        assert serving.memory() - before <= bound, f"grew by {(serving.memory() - before) / 1e6:.1f} MB"
        channel, _ = other.login(key).open_channel(1, "127.0.0.1", targets.echo)
        for _ in range(50):
            other.data(channel, b"ping")
            assert other.read(4) == b"ping"


def test_t24_upload_from_dev_zero(server, ssh, targets, sanitized):
    """ssh -W fed from /dev/zero into a target that hardly reads."""
    serving = server()
    ssh.run(serving, "-W", f"127.0.0.1:{targets.sink}", data=b"warm")
    before = serving.memory()
    name = f"zero-{time.monotonic_ns()}"
    zeros = subprocess.Popen(["sh", "-c", f"echo {name}; exec cat /dev/zero"], stdout=subprocess.PIPE)
    try:
        head = ssh.start(serving, "-W", f"127.0.0.1:{targets.drip}", stdin=zeros.stdout)
        wait_until(lambda: targets.stat("read", name) > 300 * 1024, 60, "the target to read 300 KiB")
        assert head.running(), head.log()
        bound = 64 << 20 if sanitized else GROWTH
        assert serving.memory() - before <= bound, f"grew by {(serving.memory() - before) / 1e6:.1f} MB"
    finally:
        zeros.kill()
        zeros.wait()
        zeros.stdout.close()
        targets.wake(name)


def test_nothing_burns_while_a_channel_stalls(pair, targets):
    """A stalled channel costs no CPU: nobody spins on a blocked socket."""
    with pair.connect(targets.source) as sock:
        sock.sendall(b"%d\n" % OFFERED)
        wait_until(lambda: net.waiting_bytes(sock) > 0, 20, "the first bytes")
        wait_until(Settled(lambda: net.waiting_bytes(sock), 60), 60, "the stream to stop")
        start, used = time.monotonic(), [cpu_seconds(p.pid) for p in pair.ours]
        wait_until(lambda: time.monotonic() - start > 1.0, 5, "a second of looking on")
        for program, old in zip(pair.ours, used):
            assert cpu_seconds(program.pid) - old < 0.2, f"{program.argv[1]} burns CPU while it waits"
