# SPDX-License-Identifier: MIT OR Apache-2.0
"""Remote forwards: who listens where, and what goes through."""

import re
import socket
from pathlib import Path

from . import net


def _address(hexadecimal):
    raw = bytes.fromhex(hexadecimal)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET6 if len(words) == 16 else socket.AF_INET, words)


def sockets(port):
    """The sockets that listen at this port, whoever's they are: inode and address."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net/" + name).read_text().splitlines()[1:]:
            fields = line.split()
            host, number = fields[1].split(":")
            if fields[3] == "0A" and int(number, 16) == port:
                found[fields[9]] = _address(host)
    return found


def listening(port):
    """The addresses that anybody listens on at this port."""
    return set(sockets(port).values())


def held_port(program, n=0):
    """The port that the server listens on for the client's nth remote forward to be held."""
    pattern = r"alknet: the server listens on port (\d+) for --remote-forward"
    program.wait_log(pattern, count=n + 1)
    return int(re.findall(pattern, program.log())[n])


def talk(port, data, host="127.0.0.1"):
    """Does the echo at the other end of the forward answer?"""
    with net.connect(port, host) as sock:
        sock.sendall(data)
        return net.recv_exact(sock, len(data)) == data
