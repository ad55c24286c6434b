#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What garbage on a stealth port costs, beside the real nginx with the same certificate: CPU of all processes of each, by the kernel's
schedstat, and how often they went to sleep, for the same connections in turns. Both write their logs to files as they do when nobody
changes that."""

import argparse
import contextlib
import os
import random
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))

from harness import nginx, procs  # noqa: E402

REAL, OURS = "nginx", "alknet"


def random_bytes(made):
    return made.randbytes(made.randrange(1, 400))


def hello(made):
    """A record of a handshake, of the right length, with nonsense in it."""
    body = b"\x01\x00\x00" + random_bytes(made)
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body


KINDS = {
    "text": lambda made: b"hello, server\r\n",
    "http": lambda made: b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: scan\r\n\r\n",
    "ssh": lambda made: b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "random": random_bytes,
    "hello": hello,
    "nothing": lambda made: b"",
}


def begin(port, what):
    sock = socket.create_connection(("127.0.0.1", port), 20)
    if what:
        sock.sendall(what)
    sock.shutdown(socket.SHUT_WR)
    return sock


def finish(sock):
    try:
        while sock.recv(4096):
            pass
    except ConnectionResetError:
        pass
    sock.close()


def page(port):
    """No garbage: a page that is not there, with TLS before it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while sock.recv(4096):
            pass


def throw(port, kind, count, at_once):
    """The same bytes for each that is asked."""
    made = random.Random(count)
    for _ in range(0, count, at_once):
        if kind == "page":
            page(port)
            continue
        socks = [begin(port, KINDS[kind](made)) for _ in range(at_once)]
        for sock in socks:
            finish(sock)


def sleeps(pid):
    """How often a process tree went to sleep: it was woken as often."""
    count = 0
    for one in procs.tree(pid):
        with contextlib.suppress(OSError):
            count += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{one}/status").read_text(), re.M)[1])
    return count


def cpu_when_quiet(pid):
    """What is still to be done of the last connection is done when the sum stays the same."""
    spent = procs.cpu_seconds(pid)
    while True:
        time.sleep(0.05)
        now = procs.cpu_seconds(pid)
        if now == spent:
            return now
        spent = now


def certificate(directory):
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
                    "/CN=example.org"], check=True, capture_output=True)
    os.chmod(key, 0o600)
    return cert, key


def alknet(directory, keys, cert, key, flags):
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", keys.authorized, "--listen", "127.0.0.1:0"]
    argv += ["--transport", "tls", "--tls-cert", cert, "--tls-key", key, "--stealth", "--admin-socket", directory / "admin.sock"]
    argv += ["--max-startups", "5000:1:5000", "--max-handshakes", "0", *flags]
    server = procs.Server(argv, directory / "alknet.log")
    server.find_port()
    return server


def measure(real, ours, kinds, at_once, options):
    """For each kind and program a list of (CPU in us, sleeps) a connection, one for each round."""
    spent = {(kind, who): [] for kind in kinds for who in (REAL, OURS)}
    count = -(-options.connections // at_once) * at_once
    for round_number in range(options.rounds + 1):
        for kind in kinds:
            for who, pid, port in ((REAL, real.process.pid, real.port), (OURS, ours.pid, ours.port)):
                before, slept = cpu_when_quiet(pid), sleeps(pid)
                throw(port, kind, count, at_once)
                slept = sleeps(pid) - slept
                if round_number > 0:  # the first one warms up
                    spent[kind, who].append(((cpu_when_quiet(pid) - before) / count * 1e6, slept / count))
    return spent


def report(spent, kinds, at_once):
    """Ours of nginx's cost, over all kinds."""
    sums = {REAL: 0.0, OURS: 0.0}
    print(f"{at_once} at once: us of CPU a connection, and how often it woke a process")
    for kind in kinds:
        cost, woke = ({who: statistics.median(one[i] for one in spent[kind, who]) for who in sums} for i in (0, 1))
        for who in sums:
            sums[who] += cost[who]
        print(f"{kind:>8}: nginx {cost[REAL]:6.1f} ({woke[REAL]:.2f}), alknet {cost[OURS]:6.1f} ({woke[OURS]:.2f}): {cost[OURS] / cost[REAL]:.2f}")
    print(f"{'all':>8}: {sums[OURS] / sums[REAL]:.2f}, goal 1: {'reached' if sums[OURS] <= sums[REAL] else 'missed'}", flush=True)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-n", "--connections", type=int, default=1000, help="of each kind in a round")
    parser.add_argument("-a", "--at-once", default="1", help="how many, or several such numbers: 1,16,64")
    parser.add_argument("-k", "--kinds", default=",".join(KINDS), help=", ".join([*KINDS, "page"]))
    parser.add_argument("--without-access-log", action="store_true", help="nginx writes none")
    parser.add_argument("--serve", default="", help="more flags of alknet serve")
    options = parser.parse_args(argv)
    if nginx.find() is None:
        print(f"{nginx.VERSION} is not installed", file=sys.stderr)
        return 1
    kinds = options.kinds.split(",")
    directory = Path(tempfile.mkdtemp(prefix="alknet-bench."))
    running = []
    try:
        cert, key = certificate(directory)
        real = nginx.Nginx(directory, cert, key, access_log=not options.without_access_log)
        running.append(real.stop)
        ours = alknet(directory, procs.Keys(directory), cert, key, options.serve.split())
        running.append(ours.kill)
        for at_once in map(int, options.at_once.split(",")):
            report(measure(real, ours, kinds, at_once, options), kinds, at_once)
    finally:
        for stop in running:
            stop()
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
