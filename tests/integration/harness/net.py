# SPDX-License-Identifier: MIT OR Apache-2.0
"""Small clients: SOCKS5, HTTP CONNECT, exact reads, and the byte stream that both ends can compute."""

import array
import fcntl
import hashlib
import ipaddress
import random
import socket
import struct
import termios
from pathlib import Path

from .waiting import scaled

BLOCK = 1 << 16
_noise = random.Random(4254).randbytes(BLOCK)


def waiting_bytes(sock):
    """What has come and was not read."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, count)
    return count[0]


def pattern(total):
    """Yield `total` bytes; each block begins with its number, so nothing can be lost or swapped unseen.

    The yielded buffer is reused: use it before asking for the next."""
    block = bytearray(_noise)
    view = memoryview(block)
    number = 0
    while total > 0:
        struct.pack_into(">Q", block, 0, number)
        n = min(total, BLOCK)
        yield view[:n]
        total -= n
        number += 1


def pattern_sha256(total):
    digest = hashlib.sha256()
    for piece in pattern(total):
        digest.update(piece)
    return digest.hexdigest()


_taken = []


def free_port():
    """A port on 127.0.0.1 for a program that cannot be told 0, or that listens later or again.

    The kernel gives it to nobody who asks for any port or connects somewhere, since it is below that range, and
    no other run of the tests takes it: the name of a socket, which goes with this process, stands for it."""
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    lowest = max(int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii")), highest - 16384)
    ports = list(range(lowest, highest))
    random.shuffle(ports)
    for port in ports:
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0alknet-test-port-{port}")
            with socket.socket() as tried:
                tried.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        _taken.append(name)
        return port
    raise AssertionError(f"no port from {lowest} to {highest} is free")


def connect(port, host="127.0.0.1", timeout=30):
    sock = socket.create_connection((host, port), scaled(timeout))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def recv_exact(sock, n):
    out = bytearray()
    while len(out) < n:
        piece = sock.recv(n - len(out))
        if not piece:
            raise EOFError(f"{len(out)} of {n} bytes, then the end: {bytes(out)!r}")
        out += piece
    return bytes(out)


def recv_all(sock, limit=1 << 24):
    out = bytearray()
    while len(out) < limit:
        piece = sock.recv(65536)
        if not piece:
            break
        out += piece
    return bytes(out)


def recv_line(sock):
    out = bytearray()
    while not out.endswith(b"\n"):
        piece = sock.recv(1)
        if not piece:
            break
        out += piece
    return bytes(out)


class ProxyRefused(Exception):
    """SOCKS5 reply code or HTTP status of a refused request."""

    def __init__(self, code, text=""):
        super().__init__(f"{code} {text}")
        self.code = code


def socks_address(host, kind="name"):
    if kind == "address":
        ip = ipaddress.ip_address(host)
        return bytes([1 if ip.version == 4 else 4]) + ip.packed
    name = host.encode()
    return b"\x03" + bytes([len(name)]) + name


def socks_connect(port, host, to, kind="name", timeout=30, early=b""):
    """CONNECT through the SOCKS5 proxy on loopback `port`; `early` is sent right behind the request."""
    sock = connect(port, timeout=timeout)
    try:
        sock.sendall(b"\x05\x01\x00")
        greeting = recv_exact(sock, 2)
        if greeting != b"\x05\x00":
            raise ProxyRefused(greeting[1], "greeting")
        sock.sendall(b"\x05\x01\x00" + socks_address(host, kind) + struct.pack(">H", to) + early)
        reply = recv_exact(sock, 4)
        size = {1: 4, 4: 16}.get(reply[3])
        if size is None:
            size = recv_exact(sock, 1)[0]
        recv_exact(sock, size + 2)
        if reply[1]:
            raise ProxyRefused(reply[1])
        return sock
    except BaseException:
        sock.close()
        raise


def http_connect(port, host, to, headers="", timeout=30):
    sock = connect(port, timeout=timeout)
    try:
        where = f"[{host}]:{to}" if ":" in host else f"{host}:{to}"
        sock.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{headers}\r\n".encode())
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += recv_exact(sock, 1)
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            raise ProxyRefused(status, head.decode("latin-1"))
        return sock
    except BaseException:
        sock.close()
        raise


def ask_echo(sock, text=b"are you there?\n"):
    """One round trip through an echo target."""
    sock.sendall(text)
    got = recv_exact(sock, len(text))
    assert got == text
    return got


def have_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
