# SPDX-License-Identifier: MIT OR Apache-2.0
"""A name server of the test's own, and a way to have a program ask it alone: /etc/resolv.conf has no ports, so it is
on port 53 of a loopback address, and a mount namespace shows the program another file."""

import ipaddress
import random
import shutil
import socket
import struct
import subprocess
import threading

A, AAAA = 1, 28


class NameServer:
    """`answers[name]` is a list of answers, each a list of addresses: the n-th question of a family gets the n-th
    of them, the last one for ever after. A name without answers does not exist; questions for those in `silent` are
    not answered."""

    def __init__(self, directory):
        self.answers = {}
        self.asked = []
        self.silent = set()
        self.socket = self.address = None
        for _ in range(20):
            address = f"127.53.{random.randrange(256)}.{random.randrange(1, 255)}"
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                sock.bind((address, 53))
            except PermissionError:
                sock.close()
                raise
            except OSError:
                sock.close()
                continue
            self.socket, self.address = sock, address
            break
        self.conf = directory / "resolv.conf"
        self.conf.write_text(f"nameserver {self.address}\n")
        threading.Thread(target=self._serve, daemon=True).start()

    def wrap(self):
        """What stands before the program's words."""
        show = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", show, str(self.conf)]

    def close(self):
        self.socket.close()

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(512)
                answer = self._answer(query)
                if answer is not None:
                    self.socket.sendto(answer, peer)
            except OSError:
                return

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
            at += query[at] + 1
        name, family = ".".join(labels), struct.unpack("!H", query[at + 1 : at + 3])[0]
        turns = self.answers.get(name)
        turn = self.asked.count((name, family))
        self.asked.append((name, family))
        if name in self.silent:
            return None
        addresses = [ipaddress.ip_address(a) for a in turns[min(turn, len(turns) - 1)]] if turns else []
        wanted = [a for a in addresses if (A if a.version == 4 else AAAA) == family]
        flags = 0x8180 | (0 if turns else 3)
        head = query[:2] + struct.pack("!HHHHH", flags, 1, len(wanted), 0, 0)
        records = b"".join(struct.pack("!HHHIH", 0xC00C, family, 1, 0, len(a.packed)) + a.packed for a in wanted)
        return head + query[12 : at + 5] + records


def why_not():
    """Why this machine cannot have one; None when it can."""
    if not shutil.which("unshare"):
        return "unshare is not installed"
    made = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if made.returncode:
        return "no mount namespace may be made"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.53.0.1", 53))
    except PermissionError:
        return "port 53 may not be bound"
    except OSError:
        pass
    return None
