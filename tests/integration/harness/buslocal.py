# SPDX-License-Identifier: MIT OR Apache-2.0
"""The bus at a unix socket, without SSH: the words of buswire.Peer over it."""

import socket

from .buswire import Peer
from .waiting import scaled


class Local(Peer):
    def __init__(self, path, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(scaled(timeout))
        self.socket.connect(str(path))
        self.buffer, self.closed = bytearray(), False

    def raw(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the other end closed before it had all: what it said is still to be read

    def fill(self):
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""  # what was not read before the end
        if not data:
            self.closed = True
            raise EOFError("the connection closed")
        self.buffer += data

    def end(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()
