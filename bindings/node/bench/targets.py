#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the clients of bench.js are led to: `echo`, `source` (sends so many MiB) and `sink` (reads to the end, then closes). They cost as
little as they can, because they share the processors with what is measured. Prints their ports; ends with its stdin."""

import json
import socket
import sys
import threading

PIECE = 256 * 1024
total = int(sys.argv[1]) * 2**20


def echo(sock):
    while data := sock.recv(PIECE):
        sock.sendall(data)


def source(sock):
    piece = bytes(PIECE)
    for _ in range(0, total, PIECE):
        sock.sendall(piece)


def sink(sock):
    room = bytearray(PIECE)
    while sock.recv_into(room):
        pass


def talk(kind, sock):
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            kind(sock)
        except ConnectionError:
            pass  # the client has gone


def serve(kind):
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=talk, args=(kind, sock), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


print(json.dumps([serve(kind) for kind in (echo, source, sink)]), flush=True)
sys.stdin.read()
