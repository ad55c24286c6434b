# SPDX-License-Identifier: MIT OR Apache-2.0
"""Targets that stall, reset in the middle or send a byte a second (T24, T26): their own stream bears it and no other."""

import socket
import struct
import threading
import time

import pytest

from harness import net, procs
from harness.load import Load
from harness.waiting import Settled, patient, scaled, wait_until


class Target:
    """serve(sock, n) for the n-th connection, in a thread of its own."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port, self.serve, self.errors = self.listener.getsockname()[1], serve, []
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return  # closed by close()
            self.threads.append(threading.Thread(target=self.run, args=(sock, len(self.threads)), daemon=True))
            self.threads[-1].start()

    def run(self, sock, n):
        with sock:
            try:
                self.serve(sock, n)
            except OSError as error:
                self.errors.append(error)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(scaled(20))
            assert not thread.is_alive()


@pytest.fixture
def pair(tunnel, targets):
    serving, connecting = tunnel(workers=1)
    load = Load(connecting.port, targets)
    load.go_on()
    yield serving, connecting, load
    load.enough.set()


def idle(serving, pids):
    """Channels gone; descriptors and memory of both ends."""
    wait_until(lambda: serving.metric("alknet_channels") == 0, 20, "the channels to be gone")
    wait_until(Settled(lambda: sum(len(procs.open_files(p)) for p in pids), 5), 20, "descriptors to settle")
    return sum(len(procs.open_files(p)) for p in pids)


def test_t24_targets_that_accept_and_stall(pair, targets, root, size, sanitized):
    """Uploads to targets that never read: bounded memory at both ends, the others at full speed, and all of it given back."""
    serving, connecting, load = pair
    before = serving.memory(), connecting.memory()
    stalled = []
    for _ in range(size(8, 40)):
        sock = net.socks_connect(connecting.port, "127.0.0.1", targets.slow)
        sock.sendall(b"never\n")
        sock.setblocking(False)
        stalled.append(sock)

    def push():
        taken = 0
        for sock in stalled:
            try:
                taken += sock.send(bytes(1 << 18))
            except BlockingIOError:
                pass
        return taken

    full = Settled(push)
    wait_until(full, 60, "the windows to be full")
    load.slow = []
    load.go_on(12)
    assert load.waited() < patient(1), f"round trips beside them took {load.slow} s"
    if not sanitized:
        # At the server about 2 MiB wait and 2 MiB are taken out (THREAT_MODEL, windows); the client keeps less.
        for then, now in zip(before, (serving.memory(), connecting.memory())):
            assert now - then < (len(stalled) * 4 + 8) << 20
    for sock in stalled:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert load.stop() == 0, load.cut
    targets.wake("never")
    idle(serving, procs.tree(serving.pid) + [connecting.pid])


def test_t26_resets_in_the_middle(pair, root, size):
    """A target sends half and resets: the application has an end (soon) and a right beginning, nothing stays behind."""
    serving, connecting, load = pair
    half = 1 << 19

    def serve(sock, _):
        for piece in net.pattern(half):
            sock.sendall(piece)
        sock.recv(1)  # the application has some of it
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    target = Target(serve)
    expected = b"".join(bytes(piece) for piece in net.pattern(half))
    pids = procs.tree(serving.pid) + [connecting.pid]
    before, took = None, []
    for n in range(size(60, 1000)):
        with net.socks_connect(connecting.port, "127.0.0.1", target.port) as sock:
            got = net.recv_exact(sock, 1 << 16)
            sock.sendall(b"x")
            begun = time.monotonic()
            try:
                while piece := sock.recv(1 << 16):
                    got += piece
            except ConnectionResetError:
                pass
            took.append(time.monotonic() - begun)
            assert got == expected[: len(got)], "other bytes than were sent"
        if n == 9:
            before = sum(len(procs.open_files(p)) for p in pids)
    target.close()
    assert not target.errors
    assert sorted(took)[len(took) // 2] < patient(2) and max(took) < patient(7), f"the ends came after {took} s"
    load.go_on(6)
    assert load.stop() == 0, load.cut
    assert idle(serving, pids) <= before


def test_a_byte_a_second(pair, size):
    """Each byte arrives when it was sent, not with the next one; the streams beside it do not care."""
    serving, connecting, load = pair
    seconds, sent = size(4, 120), {}
    stop = threading.Event()

    def serve(sock, _):
        for n in range(seconds):
            sent[n] = time.monotonic()
            sock.sendall(bytes([n]))
            stop.wait(1)

    target = Target(serve)
    late = []
    with net.socks_connect(connecting.port, "127.0.0.1", target.port) as sock:
        for n in range(seconds):
            assert net.recv_exact(sock, 1) == bytes([n])
            late.append(time.monotonic() - sent[n])
        assert sock.recv(1) == b""
    target.close()
    # With the next one all but the last would be a second late.
    assert sorted(late)[len(late) // 2] < 0.5, f"the bytes were {late} s under way"
    assert load.stop() == 0, load.cut
    assert not connecting.lines("the session ended")
    wait_until(lambda: serving.metric("alknet_channels") == 0, 20, "the channels to be gone")
