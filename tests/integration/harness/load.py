# SPDX-License-Identifier: MIT OR Apache-2.0
"""Transfers that go on and on through a client's proxy, and are looked at byte by byte."""

import hashlib
import socket
import threading
import time

from . import net
from .waiting import scaled, wait_until


class Corrupt(AssertionError):
    """Not cut short, which a fault may do to a stream, but other bytes: nothing may do that."""


class Load:
    """Three streams in turns: down, up, and round trips. `whole` counts those that came to their end, `cut` those that did not."""

    def __init__(self, port, targets, nbytes=1 << 20):
        self.port, self.targets, self.nbytes = port, targets, nbytes
        self.enough, self.lock = threading.Event(), threading.Lock()
        self.whole, self.cut, self.errors = 0, [], []
        self.trips, self.slow = 0, []  # round trips, and the longest of them
        self.digest = net.pattern_sha256(nbytes)
        self.threads = [threading.Thread(target=self.run, args=(one,), daemon=True) for one in (self.down, self.up, self.ask)]
        for thread in self.threads:
            thread.start()

    def connect(self, to):
        return net.socks_connect(self.port, "127.0.0.1", to)

    def down(self):
        with self.connect(self.targets.source) as sock:
            sock.sendall(b"%d\n" % self.nbytes)
            for piece in net.pattern(self.nbytes):
                if net.recv_exact(sock, len(piece)) != piece:
                    raise Corrupt("other bytes came down")
            if sock.recv(1):
                raise Corrupt("more bytes came down than were sent")

    def up(self):
        with self.connect(self.targets.sink) as sock:
            for piece in net.pattern(self.nbytes):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            said = net.recv_line(sock).split()
            if not said:
                raise EOFError("no answer")
            if said[1] == self.digest.encode():
                return
            if int(said[0]) >= self.nbytes:
                raise Corrupt("other bytes arrived")
            raise EOFError(f"{said[0]} bytes arrived")

    def ask(self):
        with self.connect(self.targets.echo) as sock:
            for n in range(50):
                begun = time.monotonic()
                text = hashlib.sha256(b"%d" % n).digest()
                sock.sendall(text)
                if net.recv_exact(sock, len(text)) != text:
                    raise Corrupt("another echo")
                self.slow = sorted([*self.slow, time.monotonic() - begun])[-3:]
                self.trips += 1
                self.enough.wait(0.002)

    def run(self, once):
        while not self.enough.is_set():
            try:
                once()
                with self.lock:
                    self.whole += 1
            except (OSError, EOFError, net.ProxyRefused) as error:
                with self.lock:
                    self.cut.append(f"{once.__name__}: {error!r:.200}")
                self.enough.wait(0.1)
            except Exception as error:  # told by finish()
                self.errors.append(error)
                return

    def go_on(self, times=4, timeout=40):
        """Wait until so many more came to their end."""
        then = self.whole
        wait_until(lambda: self.whole >= then + times or self.errors, timeout, f"{times} more transfers (cut: {self.cut[-3:]})")
        self.check()

    def waited(self):
        """The third longest round trip since `slow` was emptied: a machine stalls once, who really waits for something does it again and again."""
        return min(self.slow, default=0.0)

    def round_trips(self, many=20, timeout=20):
        """Wait until so many more were made."""
        then = self.trips
        wait_until(lambda: self.trips >= then + many or self.errors, timeout, f"{many} more round trips (cut: {self.cut[-3:]})")
        self.check()

    def check(self):
        if self.errors:
            raise self.errors[0]

    def stop(self):
        """Gives how many were cut."""
        self.enough.set()
        for thread in self.threads:
            thread.join(scaled(30))
            assert not thread.is_alive(), "a stream hangs"
        self.check()
        assert self.whole, f"nothing came to its end: {self.cut[-3:]}"
        return len(self.cut)
