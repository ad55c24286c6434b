# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a tunnel leads to, in a process of its own so that no test shares its interpreter lock.

Run as `python3 -m harness.targets DIR`; prints one JSON line of ports and ends when its stdin does.

  echo      sends back what came; closes its half when the peer did
  sink      reads to the end of the stream, then answers "COUNT SHA256\n": works only with half-close
  discard   reads to the end, without a digest, then answers "COUNT\n"
  counted   reads "N\n", then N bytes, then answers "N\n"
  source    reads "N\n", sends N bytes of net.pattern(), closes
  bye       sends "bye\n", closes its half at once, then reads to the end (see control: `ended`)
  slow      reads "NAME\n", then nothing until control says `wake NAME`; from then on a sink
  drip      as slow, but reads 1 KiB each 10 ms until it is woken
  http      answers any request with a small page
  reset     reads one byte, then resets the connection
  refused   a port that is bound and does not listen
  blackhole a port whose queue is full: a connect to it gets no answer at all
  unix      a unix socket that echoes; `unix_sink` one that is a sink
  control   one line, one JSON line back: wake NAME | stats
"""

import hashlib
import json
import os
import resource
import socket
import struct
import sys
import threading

from .net import pattern, recv_line

ECHO_PIECE = 1 << 16


class Targets:
    def __init__(self, directory):
        self.lock = threading.Lock()
        self.events = {}
        self.stats = {"accepted": {}, "ended": {}, "read": {}}
        self.keep = []
        self.ports = {}
        for name in ("echo", "sink", "discard", "counted", "source", "bye", "slow", "drip", "http", "reset", "control"):
            self.ports[name] = self.listen(name, ("127.0.0.1", 0), socket.AF_INET)
        for name, path in (("unix", "echo"), ("unix_sink", "sink")):
            where = os.path.join(directory, path + ".sock")
            self.listen(path, where, socket.AF_UNIX, name)
            os.chmod(where, 0o666)
            self.ports[name] = where
        try:
            self.ports["echo6"] = self.listen("echo", ("::1", 0), socket.AF_INET6, "echo6")
        except OSError:
            self.ports["echo6"] = None
        refused = socket.socket()
        refused.bind(("127.0.0.1", 0))
        self.keep.append(refused)
        self.ports["refused"] = refused.getsockname()[1]
        self.ports["blackhole"] = self.blackhole()

    def blackhole(self):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self.keep.append(listener)
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            self.keep.append(sock)
        return listener.getsockname()[1]

    def listen(self, kind, address, family, name=None):
        listener = socket.socket(family)
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
        name = name or kind
        run = getattr(self, "do_" + kind)

        def serve(sock):
            try:
                run(sock, name)
            except (OSError, ValueError):
                pass  # the peer went away: what a tunnel's tests do all the time
            finally:
                self.count("ended", name)
                sock.close()

        def accept():
            while True:
                sock, _ = listener.accept()
                if family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.count("accepted", name)
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()[1] if family != socket.AF_UNIX else address

    def count(self, what, name, n=1):
        with self.lock:
            self.stats[what][name] = self.stats[what].get(name, 0) + n

    def event(self, name):
        with self.lock:
            return self.events.setdefault(name, threading.Event())

    def do_echo(self, sock, _):
        while data := sock.recv(ECHO_PIECE):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    def do_sink(self, sock, _):
        digest, total, buf = hashlib.sha256(), 0, bytearray(1 << 18)
        view = memoryview(buf)
        while n := sock.recv_into(buf):
            digest.update(view[:n])
            total += n
        sock.sendall(f"{total} {digest.hexdigest()}\n".encode())

    def do_discard(self, sock, _):
        total, buf = 0, bytearray(1 << 18)
        while n := sock.recv_into(buf):
            total += n
        sock.sendall(f"{total}\n".encode())

    def do_counted(self, sock, _):
        total, buf = int(recv_line(sock)), bytearray(1 << 18)
        left = total
        while left > 0 and (n := sock.recv_into(buf, min(left, len(buf)))):
            left -= n
        sock.sendall(f"{total - left}\n".encode())

    def do_source(self, sock, _):
        for piece in pattern(int(recv_line(sock))):
            sock.sendall(piece)

    def do_bye(self, sock, name):
        sock.sendall(b"bye\n")
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(65536):
            self.count("read", name, len(data))

    def do_slow(self, sock, _):
        name = recv_line(sock).decode().strip()
        self.event(name).wait()
        self.do_sink(sock, name)

    def do_drip(self, sock, _):
        name = recv_line(sock).decode().strip()
        digest, total, woken = hashlib.sha256(), 0, self.event(name)
        while True:
            data = sock.recv(65536 if woken.wait(0.01) else 1024)
            if not data:
                break
            digest.update(data)
            total += len(data)
            self.count("read", name, len(data))
        sock.sendall(f"{total} {digest.hexdigest()}\n".encode())

    def do_http(self, sock, _):
        head = bytearray()
        while b"\r\n\r\n" not in head:
            data = sock.recv(4096)
            if not data:
                return
            head += data
        page = b"the page behind the tunnel\n"
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(page) + page)

    def do_reset(self, sock, _):
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def do_control(self, sock, _):
        words = recv_line(sock).decode().split()
        if words[0] == "wake":
            self.event(words[1]).set()
        with self.lock:
            sock.sendall(json.dumps(self.stats).encode() + b"\n")


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    targets = Targets(sys.argv[1])
    print(json.dumps(targets.ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
