#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Send one event over the bus and get it on another channel, through the SOCKS5 port of `alknet connect`:

    bus_event.py 127.0.0.1:1080 TOPIC JSON"""

import json
import socket
import struct
import sys


def channel(proxy):
    """A connection to alknet-control (RFC 1928; any port will do)."""
    host, port = proxy.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)), timeout=10)
    name = b"alknet-control"
    sock.sendall(b"\5\1\0" + b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack(">H", 1))
    stream = sock.makefile("rwb", buffering=0)
    if exact(stream, 2) != b"\5\0" or exact(stream, 10)[1] != 0:
        raise SystemExit("the proxy refused")
    return stream


def exact(stream, n):
    out = b""
    while len(out) < n:
        piece = stream.read(n - len(out))
        if not piece:
            raise SystemExit("the channel ended")
        out += piece
    return out


def say(stream, kind, ident, payload):
    text = json.dumps({"type": kind, "id": ident, "payload": payload}).encode()
    stream.write(struct.pack(">I", len(text)) + text)


def hear(stream):
    return json.loads(exact(stream, struct.unpack(">I", exact(stream, 4))[0]))


def main(proxy, topic, payload):
    reader, writer = channel(proxy), channel(proxy)
    say(reader, "__subscribe", "1", {"topic": topic})
    answer = hear(reader)
    if answer["type"] != "__ok":
        raise SystemExit(answer["payload"]["message"])
    say(writer, topic, "", json.loads(payload))
    print(json.dumps(hear(reader)))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
