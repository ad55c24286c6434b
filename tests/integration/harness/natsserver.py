# SPDX-License-Identifier: MIT OR Apache-2.0
"""The real nats-server, and a client of its protocol in a few lines, so that the other end is not ours."""

import json
import shutil
import signal
import socket
import subprocess

from .net import free_port
from .waiting import scaled, wait_until


def program():
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")


class NatsServer:
    def __init__(self, directory, jetstream=False, config=""):
        """`config` is what its configuration file has."""
        self.dir, self.port, self.popen = directory, free_port(), None
        self.jetstream, self.config = jetstream, config
        self.start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        argv = [program(), "-a", "127.0.0.1", "-p", str(self.port)]
        if self.jetstream:
            argv += ["-js", "-sd", str(self.dir / "jetstream")]
        if self.config:
            (self.dir / "nats.conf").write_text(self.config)
            argv += ["-c", str(self.dir / "nats.conf")]
        self.log = open(self.dir / "nats.log", "ab")
        self.popen = subprocess.Popen(argv, stdout=self.log, stderr=self.log)
        wait_until(self.answers, 20, "nats-server")

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def kill(self):
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(20)
        self.log.close()

    def close(self):
        if self.popen.poll() is None:
            self.kill()


class Plain:
    """Somebody who speaks NATS and knows nothing of alknet."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), scaled(30))
        self.file, self.number = self.socket.makefile("rb"), 0
        assert self.file.readline().startswith(b"INFO ")
        self.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nPING\r\n')
        assert self.line() == b"PONG"

    def write(self, data):
        self.socket.sendall(data)

    def line(self):
        while True:
            line = self.file.readline().rstrip(b"\r\n")
            if line != b"PING":
                return line
            self.write(b"PONG\r\n")

    def sync(self):
        self.write(b"PING\r\n")
        assert self.line() == b"PONG"

    def subscribe(self, subject, queue=""):
        self.number += 1
        self.write(f"SUB {subject} {queue} {self.number}\r\n".encode())
        self.sync()
        return self

    def publish(self, subject, value, reply=""):
        body = json.dumps(value).encode()
        self.write(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def pretend(self, subject, type_, value):
        """As a server of alknet answers."""
        head, body = f"NATS/1.0\r\nAlknet-Type: {type_}\r\n\r\n".encode(), json.dumps(value).encode()
        self.write(f"HPUB {subject} {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n")

    def next(self):
        """(subject, reply, value)"""
        words = self.line().decode().split()
        assert words[0] in ("MSG", "HMSG"), words
        whole = self.file.read(int(words[-1]) + 2)[:-2]
        plain = len(words) - (5 if words[0] == "HMSG" else 4)
        body = whole[int(words[-2]) :] if words[0] == "HMSG" else whole
        return words[1], words[3] if plain else "", json.loads(body) if body else None

    def close(self):
        self.file.close()
        self.socket.close()
