# SPDX-License-Identifier: MIT OR Apache-2.0
"""Long links: the receive window follows what a channel drains in a round trip."""

import hashlib
import socket

import pytest

from harness import net, procs, sshwire
from harness.sshwire import WINDOW_ADJUST, Reader

MB = 1000 * 1000
# What libssh keeps open, and one packet.
BASE = 1_280_000 + 35_000


@pytest.fixture
def link(tmp_path, running_programs):
    """link(port, delay) gives the port of a longer way there."""

    def make(port, delay_ms):
        running_programs.append(procs.start_relay(port, tmp_path, delay_ms))
        return running_programs[-1].port

    return make


class Upload:
    """Sends what the window allows and remembers how wide it is."""

    def __init__(self, wire, port):
        self.wire = wire
        self.channel, self.window = wire.open_channel(0, "127.0.0.1", port)
        self.piece = bytes(32000)

    def adjust(self):
        fields = Reader(self.wire.expect(WINDOW_ADJUST))
        fields.byte(), fields.u32()
        self.window += fields.u32()

    def send(self, total):
        while total > 0:
            while self.window < len(self.piece):
                self.adjust()
            self.wire.data(self.channel, self.piece)
            self.window -= len(self.piece)
            total -= len(self.piece)

    def settled(self):
        """The window once the server has answered everything that was sent."""
        before = None
        while before != self.window:
            before = self.window
            self.wire.send(bytes([sshwire.GLOBAL_REQUEST]) + sshwire.string("settled@example.com") + b"\1")
            while (payload := self.wire.recv())[0] not in (sshwire.REQUEST_SUCCESS, sshwire.REQUEST_FAILURE):
                if payload[0] == WINDOW_ADJUST:
                    self.window += Reader(payload[5:]).u32()
        return self.window


def login(port, keys):
    return sshwire.Wire(port).login(sshwire.load_key(keys.path("user")))


def test_window_is_opened_where_nothing_else_is_said(server, keys, targets):
    """A small WINDOW_ADJUST may wait for a packet to go with; it goes without one too."""
    serving = server()
    with sshwire.Wire(serving.port).login(sshwire.load_key(keys.path("user"))) as wire:
        channel, window = wire.open_channel(3, "127.0.0.1", targets.discard)
        wire.data(channel, b"x")
        fields = Reader(wire.expect(WINDOW_ADJUST)[1:])
        assert fields.u32() == 3
        assert window - 1 + fields.u32() > 1_000_000


def test_window_grows_on_a_long_link(server, keys, targets, link):
    """And the same server keeps it as it is on a near one, and for a target that takes nothing."""
    serving = server()
    with login(link(serving.port, 50), keys) as wire:
        upload = Upload(wire, targets.discard)
        upload.send(40 * MB)
        assert 4 * MB < upload.settled() <= 16 << 20
    with login(link(serving.port, 50), keys) as wire:
        upload = Upload(wire, targets.slow)
        wire.data(upload.channel, b"never\n")
        upload.send(upload.window - 2 * len(upload.piece))
        assert upload.settled() <= BASE


def test_transfer_on_a_long_link(server, client, targets, link):
    """All of it arrives, both ways, through windows that change."""
    serving = server()
    connecting = client(link(serving.port, 25))
    total = 30 * MB
    with net.socks_connect(connecting.port, "127.0.0.1", targets.source) as sock:
        sock.sendall(b"%d\n" % total)
        assert hashlib.sha256(net.recv_exact(sock, total)).hexdigest() == net.pattern_sha256(total)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.sink) as sock:
        for piece in net.pattern(total):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_line(sock).split() == [b"%d" % total, net.pattern_sha256(total).encode()]


def test_reader_that_stops_on_a_long_link(server, client, targets, link):
    """What was granted comes and waits; nothing more."""
    serving = server()
    connecting = client(link(serving.port, 25))
    total = 60 * MB
    before = connecting.memory()
    with net.socks_connect(connecting.port, "127.0.0.1", targets.source) as sock:
        sock.sendall(b"%d\n" % total)
        assert len(net.recv_exact(sock, 10 * MB)) == 10 * MB
        with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as other:
            for _ in range(20):
                net.ask_echo(other, b"x")
        assert connecting.memory() - before < 21 << 20
        assert len(net.recv_exact(sock, total - 10 * MB)) == total - 10 * MB
