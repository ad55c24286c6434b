# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is measured. Each function takes the two ends of a tunnel and gives {row: value}."""

import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import subprocess
import time

from harness import net, procs, sshwire
from harness.waiting import Settled, wait_until

PIECE = 1 << 18
CHANNELS = 200
OFFERED = 10 * 1000 * 1000 * 1000


def cpu_of(program):
    """Of an end's program, and of the one that stands beside it."""
    return getattr(program, "cpu", procs.cpu_seconds)(program.pid) + (cpu_of(program.also) if hasattr(program, "also") else 0)


class Ends:
    """A server, a client with a SOCKS5 port, and the targets behind them."""

    def __init__(self, lab, server, client, options):
        self.lab, self.server, self.client, self.options = lab, server, client, options
        self.targets = lab.targets

    def open(self, port):
        return net.socks_connect(self.client.port, "127.0.0.1", port, timeout=120)

    def warm(self):
        """The first round trips pay for lazy work."""
        for _ in range(2):
            with self.open(self.targets.echo) as sock:
                for _ in range(50):
                    net.ask_echo(sock, bytes(64))

    def cpu(self):
        return cpu_of(self.server), cpu_of(self.client)

    def memory(self):
        return procs.proportional_memory(self.server.pid), procs.proportional_memory(self.client.pid)

    def times(self, n):
        return max(20, int(n * self.options.scale))


def push(sock, total):
    """Without an end of sending: not every tunnel lets an answer through behind it."""
    block = bytes(PIECE)
    sock.sendall(b"%d\n" % total)
    while total > 0:
        sock.sendall(block[: min(total, PIECE)])
        total -= PIECE
    return int(net.recv_line(sock))


def pull(sock, total):
    sock.sendall(b"%d\n" % total)
    got, buf = 0, bytearray(PIECE)
    while n := sock.recv_into(buf):
        got += n
    return got


def bulk(ends):
    """CPU seconds a GB of each direction, and throughput."""
    out, total = {}, ends.options.bytes
    for name, port, move in (("up", ends.targets.counted, push), ("down", ends.targets.source, pull)):
        server, client = ends.cpu()
        start = time.perf_counter()
        with ends.open(port) as sock:
            assert move(sock, total) == total
        seconds = time.perf_counter() - start
        server, client = (new - old for new, old in zip(ends.cpu(), (server, client)))
        out[f"{name}: server CPU s/GB"] = server / total * 1e9
        out[f"{name}: client CPU s/GB"] = client / total * 1e9
        out[f"{name}: both CPU s/GB"] = (server + client) / total * 1e9
        out[f"{name}: MB/s"] = total / seconds / 1e6
    return out


def round_trips(ends, count):
    times = []
    message = bytes(64)
    with ends.open(ends.targets.echo) as sock:
        for _ in range(count):
            start = time.perf_counter()
            sock.sendall(message)
            net.recv_exact(sock, 64)
            times.append(time.perf_counter() - start)
    times.sort()
    return times[count // 2] * 1e6, times[int(count * 0.99)] * 1e6


@contextlib.contextmanager
def traffic(ends, direction):
    """A bulk transfer on the same session, in a process of its own."""
    port = ends.targets.source if direction == "down" else ends.targets.discard
    pid = os.fork()
    if pid == 0:
        try:
            with ends.open(port) as sock:
                (pull if direction == "down" else push)(sock, 1 << 42)
        finally:
            os._exit(0)
    try:
        before = ends.cpu()[0]
        wait_until(lambda: ends.cpu()[0] - before > 0.02, 20, "the transfer to flow")
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def latency(ends):
    """64 bytes there and back, alone and beside a bulk transfer on the same session."""
    out = {}
    out["64 B alone: p50 us"], out["64 B alone: p99 us"] = round_trips(ends, ends.times(4000))
    for direction in ("down", "up"):
        with traffic(ends, direction):
            p50, p99 = round_trips(ends, ends.times(1000))
        out[f"64 B beside bulk {direction}: p50 us"], out[f"64 B beside bulk {direction}: p99 us"] = p50, p99
    return out


def short(ends):
    """Connections that carry one byte each way, eight at a time."""
    count = ends.times(1500)

    def one(_):
        with ends.open(ends.targets.echo) as sock:
            net.ask_echo(sock, b"x")

    before, start = sum(ends.cpu()), time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count)))
    seconds = time.perf_counter() - start
    return {"short connections/s": count / seconds, "short connection: both CPU ms": (sum(ends.cpu()) - before) / count * 1e3}


def login(ends):
    """Stock ssh comes, moves three bytes and goes."""
    count = ends.times(80)
    argv = procs.ssh_argv(
        ends.lab.keys, ends.lab.dir, ends.server.port, ends.server.user, "-c", ends.options.cipher, "-W",
        f"127.0.0.1:{ends.targets.echo}", "127.0.0.1", name="login_known",
    )
    before = procs.cpu_seconds(ends.server.pid)
    for _ in range(count):
        out = subprocess.run(argv, input=b"hi\n", capture_output=True, timeout=60, check=False)
        assert out.stdout == b"hi\n", out
    used = procs.cpu_seconds(ends.server.pid) - before
    return {"logins a server CPU s": count / max(used, 0.001)}


SESSIONS = 8


def busiest(ends, workers):
    """Many sessions at once on a server of so many workers: CPU seconds of the process that has most to do."""
    server = ends.lab.serve("alknet", "--workers", str(workers))
    wait_until(lambda: len(procs.tree(server.pid)) == workers + 1, 20, "the workers")
    clients = [Ends(ends.lab, server, ends.lab.connect("alknet", server), ends.options) for _ in range(SESSIONS)]
    each = max(1 << 20, ends.options.bytes // SESSIONS)
    for client in clients:
        client.warm()
    pids = procs.tree(server.pid)
    before = [procs.cpu_of_one(pid) for pid in pids]

    def one(client):
        for _ in range(client.times(100)):
            with client.open(client.targets.echo) as sock:
                net.ask_echo(sock, b"x")
        for port, move in ((client.targets.counted, push), (client.targets.source, pull)):
            with client.open(port) as sock:
                assert move(sock, each) == each

    with concurrent.futures.ThreadPoolExecutor(SESSIONS) as pool:
        list(pool.map(one, clients))
    return max(procs.cpu_of_one(pid) - old for pid, old in zip(pids, before))


def workers(ends):
    """How much more two workers could carry than one. The clients need more cores than most machines have, so it is not
    the time that counts but how busy the busiest process of the server was with the same work."""
    if not isinstance(ends.server, procs.Server) or not isinstance(ends.client, procs.Client):
        return {}
    alone, shared = busiest(ends, 1), busiest(ends, 2)
    return {
        f"{SESSIONS} sessions: CPU s of the busiest process, 1 worker": alone, f"{SESSIONS} sessions: CPU s of the busiest process, 2 workers": shared,
        "2 workers against 1": alone / max(shared, 0.001),
    }


FAR_MS, NARROW_MS, NARROW_MBIT = 100, 40, 100


@contextlib.contextmanager
def far(ends, round_trip_ms, mbit=None):
    """The same ends with a long or narrow link between them."""
    relay = procs.start_relay(ends.server.port, ends.lab.dir, round_trip_ms / 2, mbit, name=f"relay{time.monotonic_ns()}")
    ends.lab.running.append(relay)
    relay.user = ends.server.user
    kind = "alknet" if isinstance(ends.client, procs.Client) else "openssh"
    yield Ends(ends.lab, ends.server, ends.lab.connect(kind, relay), ends.options)


def wide(ends):
    """One channel on a long link; and how a small one does beside it on a narrow one."""
    out, total = {}, ends.options.bytes
    with far(ends, FAR_MS) as link:
        if not isinstance(ends.client, procs.Client):
            total //= 8
        for name, port, move in (("up", ends.targets.counted, push), ("down", ends.targets.source, pull)):
            start = time.perf_counter()
            with link.open(port) as sock:
                assert move(sock, total) == total
            out[f"{FAR_MS} ms link, {name}: MB/s"] = total / (time.perf_counter() - start) / 1e6
    with far(ends, NARROW_MS, NARROW_MBIT) as link:
        alone, _ = round_trips(link, 20)
        for direction in ("up", "down"):
            with traffic(link, direction):
                beside, _ = round_trips(link, 20)
            out[f"{NARROW_MBIT} Mbit/s, {NARROW_MS} ms: 64 B beside bulk {direction}, times alone"] = beside / alone
    return out


def available_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(r"MemAvailable:\s+(\d+)", file.read())[1]) * 1024


def settle(ends):
    wait_until(Settled(lambda: procs.proportional_memory(ends.server.pid), 5, 1 << 15), 60, "memory to settle")
    return procs.proportional_memory(ends.server.pid)


def idle(ends):
    """Memory of sessions that have logged in and do nothing."""
    out, wires = {}, []
    key = sshwire.load_key(ends.lab.keys.path("user"))
    base = settle(ends)
    out["PSS MB of the server, 0 idle sessions"] = base / 1e6
    try:
        for count in ends.options.idle:
            if isinstance(ends.server, procs.Server) or available_memory() > count * 2_500_000 + (1 << 30):
                while len(wires) < count:
                    wires.append(ends.server.wire(ends.server.port).login(key, ends.server.user))
                    if len(wires) % 50 == 0:
                        for wire in wires:
                            wire.pump()
                size = settle(ends)
                for wire in wires:
                    wire.pump()
                assert all(wire.is_alive() for wire in wires)
                out[f"PSS MB of the server, {count} idle sessions"] = size / 1e6
                out[f"PSS KB an idle session, of {count}"] = (size - base) / count / 1e3
    finally:
        for wire in wires:
            wire.close()
    return out


def channels(ends):
    """Bytes of an open channel that is idle."""
    wait_until(Settled(lambda: sum(ends.memory()), 5, 1 << 15), 60, "memory to settle")
    before = ends.memory()
    with contextlib.ExitStack() as stack:
        for _ in range(CHANNELS):
            net.ask_echo(stack.enter_context(ends.open(ends.targets.echo)), b"x")
        wait_until(Settled(lambda: sum(ends.memory()), 5, 1 << 15), 60, "memory to settle")
        after = ends.memory()
    return {
        "idle channel: server bytes": (after[0] - before[0]) / CHANNELS,
        "idle channel: client bytes": (after[1] - before[1]) / CHANNELS,
    }


def stall(ends):
    """A reader that stops with 10 GB offered: what both ends hold, and how their other channels do."""
    before = ends.memory()
    with ends.open(ends.targets.source) as sock:
        sock.sendall(b"%d\n" % OFFERED)
        wait_until(lambda: net.waiting_bytes(sock) > 0, 20, "the first bytes")
        wait_until(Settled(lambda: net.waiting_bytes(sock), 100), 60, "the stream to stop")
        held = [new - old for new, old in zip(ends.memory(), before)]
        try:
            p50, p99 = round_trips(ends, ends.times(1000))
            total, start = max(ends.options.bytes // 4, 1 << 24), time.perf_counter()
            with ends.open(ends.targets.source) as other:
                other.settimeout(30)
                assert pull(other, total) == total
            speed = total / (time.perf_counter() - start) / 1e6
        except TimeoutError:
            p50 = p99 = float("inf")
            speed = 0.0
        most = [max(old, new - start_) for old, new, start_ in zip(held, ends.memory(), before)]
    return {
        "stalled reader: server MB": most[0] / 1e6, "stalled reader: client MB": most[1] / 1e6,
        "beside a stalled reader: 64 B p50 us": p50, "beside a stalled reader: 64 B p99 us": p99,
        "beside a stalled reader: MB/s": speed,
    }


def stall_up(ends):
    """A target that stops reading, with as much offered as the path takes."""
    before = ends.memory()
    name = f"bench-{time.monotonic_ns()}"
    block = bytes(PIECE)
    with ends.open(ends.targets.slow) as sock:
        sock.sendall(name.encode() + b"\n")
        sock.setblocking(False)
        sent = [0]

        def offer():
            with contextlib.suppress(BlockingIOError):
                while sent[0] < OFFERED:
                    sent[0] += sock.send(block)
            return sent[0]

        wait_until(Settled(offer, 100), 60, "the writer to be stopped")
        held = [new - old for new, old in zip(ends.memory(), before)]
    ends.targets.wake(name)
    return {"stalled target: server MB": held[0] / 1e6, "stalled target: client MB": held[1] / 1e6, "stalled target: MB taken": sent[0] / 1e6}


def restart(program, port, log):
    """The same server once more, on the port it had."""
    argv = [f"127.0.0.1:{port}" if word == "127.0.0.1:0" else word for word in program.argv]
    return procs.Program(argv, log)


def greets(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False


def until_echo(ends):
    """As an application does that wants its answer: again and again. Gives the time of the first one."""

    def answered():
        with contextlib.suppress(OSError, EOFError, net.ProxyRefused):
            with net.socks_connect(ends.client.port, "127.0.0.1", ends.targets.echo, timeout=60) as sock:
                net.ask_echo(sock, b"x")
                return time.perf_counter()
        return None

    return wait_until(answered, 120, "an answer through the tunnel")


def again(ends):
    """The server goes, for outages of some seconds, and comes back, while an application asks all the time.

    OpenSSH's client is `ssh -D` in a shell's loop with a second between two tries, as people write it."""
    if ends.client.argv[0] == "ssh":
        argv, port = ends.client.argv, ends.client.port
        ends.client.kill()
        ends.client = procs.Program(["sh", "-c", 'while :; do "$@"; sleep 1; done', "sh", *argv], ends.lab.dir / "again-client.log")
        ends.client.port = port
        ends.lab.running.append(ends.client)
        until_echo(ends)
    waits, count = [], 3 if ends.options.quick else 9
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for number in range(count):
            ends.server.kill()
            asking = pool.submit(until_echo, ends)
            time.sleep(2 + number * 0.37)  # how long the server is away: what is varied, not what is waited for
            back = restart(ends.server, ends.server.port, ends.lab.dir / f"again{number}.log")
            back.port = ends.server.port
            ends.server = back
            ends.lab.running.append(back)
            wait_until(lambda: greets(back.port), 20, "the server to answer")
            start = time.perf_counter()
            waits.append(max(0.0, asking.result(60) - start))
    waits.sort()
    return {"server back: s to the first byte, median": waits[len(waits) // 2], "server back: s to the first byte, worst": waits[-1]}


ALL = {
    "bulk": bulk, "latency": latency, "short": short, "login": login, "idle": idle, "channels": channels, "stall": stall,
    "stall_up": stall_up, "workers": workers, "wide": wide, "again": again,
}
# What is taken of ends inside TLS.
COVERED = {
    "alknettls": ("bulk", "latency", "short", "idle", "channels", "stall", "stall_up"), "stunnel": ("bulk", "latency", "short"),
    "trojan": ("bulk", "latency", "short"), "shadowsocks": ("bulk", "latency", "short"),
}
# Steady enough to be taken in the first round alone.
ONCE = {"idle", "channels", "stall", "stall_up", "workers", "wide", "again"}

# (row, pair, ratio to OpenSSH's pair, which way is better)
GOALS = [
    ("up: server CPU s/GB", "alknet+openssh", 1.0, "lower"),
    ("down: server CPU s/GB", "alknet+openssh", 0.8, "lower"),
    ("up: both CPU s/GB", "alknet+alknet", 0.9, "lower"),
    ("down: both CPU s/GB", "alknet+alknet", 0.9, "lower"),
    ("up: MB/s", "alknet+alknet", 1.1, "higher"),
    ("down: MB/s", "alknet+alknet", 1.1, "higher"),
    ("64 B alone: p50 us", "alknet+alknet", 1.0, "lower"),
    ("short connection: both CPU ms", "alknet+alknet", 0.8, "lower"),
    (f"{FAR_MS} ms link, up: MB/s", "alknet+alknet", 5, "higher"),
    (f"{FAR_MS} ms link, down: MB/s", "alknet+alknet", 5, "higher"),
    ("server back: s to the first byte, median", "alknet+alknet", 1.0, "lower"),
    ("logins a server CPU s", "alknet+alknet", 16, "higher"),
    ("PSS KB an idle session, of 100", "alknet+alknet", 1 / 40, "lower"),
    ("PSS KB an idle session, of 1000", "alknet+alknet", 1 / 40, "lower"),
]
# (row, pair, bound, which way is better)
BOUNDS = [
    (f"stalled {what}: {end} MB", "alknet+alknet", 4 * 1.048576, "lower") for what in ("reader", "target") for end in ("server", "client")
] + [
    (f"{NARROW_MBIT} Mbit/s, {NARROW_MS} ms: 64 B beside bulk {way}, times alone", "alknet+alknet", 4, "lower") for way in ("up", "down")
] + [
    (f"idle channel: {end} bytes", "alknet+alknet", 8192, "lower") for end in ("server", "client")
] + [("2 workers against 1", "alknet+alknet", 1.9, "higher")]
