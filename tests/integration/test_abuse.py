# SPDX-License-Identifier: MIT OR Apache-2.0
"""Sources that misbehave, bans, and counters that go down however a session ends (THREATS 1 to 5)."""

import contextlib
import os
import random
import signal
import socket
import struct
import time

import pytest

from harness import net, procs, sshwire
from harness.procs import AdminError
from harness.waiting import scaled, wait_until

GENTLE = "--source-penalties", "authfail:5 noauth:1 grace-exceeded:200 garbage:100 min:150 max:600", "--penalty-exempt", "none"


def link(port, source="127.0.0.2"):
    return socket.create_connection(("127.0.0.1", port), timeout=scaled(20), source_address=(source, 0))


def taken(port, source="127.0.0.2"):
    """Is a link from there taken? The server speaks first, or closes."""
    with link(port, source) as sock:
        try:
            return sock.recv(4) == b"SSH-"
        except ConnectionResetError:
            return False


def misdone(serving, reason):
    for line in serving.call("metrics")["text"].splitlines():
        if line.startswith(f'alknet_misdeeds_total{{reason="{reason}"}} '):
            return int(line.split()[-1])
    raise AssertionError(reason)


def garbage(port, source="127.0.0.2"):
    with link(port, source) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"\0" * 300)
        net.recv_all(sock)


def penalised(serving):
    return {row["network"]: row for row in serving.call("ban.list")["bans"] if row["kind"] == "penalty"}


def test_garbage_adds_up(server, workers):
    """Below min nothing happens; at min the source waits, another does not; what runs off is told."""
    serving = server(*GENTLE, workers=workers)
    garbage(serving.port)
    wait_until(lambda: misdone(serving, "garbage") == 1, 20, "the first to be counted")
    assert not penalised(serving) and taken(serving.port)
    garbage(serving.port)
    row = wait_until(lambda: penalised(serving).get("127.0.0.2"), 20, "the source to be penalised")
    assert 50 < row["left_duration"] <= 201
    assert not taken(serving.port) and taken(serving.port, "127.0.0.3")
    assert serving.lines("source penalised", "remote_addr=127.0.0.2", "reason=garbage")
    assert serving.metric("alknet_sources_penalised") == 1
    serving.call("ban.remove", network="127.0.0.2")
    assert not penalised(serving) and taken(serving.port)


def test_failed_logins(server, ssh):
    """The real ssh with a key that nobody knows, until what it did adds up to min; time takes some of it away meanwhile."""
    serving = server("--source-penalties", "authfail:60 min:90", "--penalty-exempt", "none")
    for n in range(2):
        assert ssh.run(serving, "-b", "127.0.0.4", "-N", identity="stranger").returncode == 255
        wait_until(lambda n=n: misdone(serving, "authfail") == n + 1, 20, "the failure to be counted")
    assert "127.0.0.4" in penalised(serving) and not taken(serving.port, "127.0.0.4")


def test_a_good_login_costs_nothing(server, ssh):
    serving = server(*GENTLE)
    ssh.start(serving, "-b", "127.0.0.5", "-N", "-v").wait_log("Authenticated to")
    assert [misdone(serving, what) for what in ("authfail", "noauth", "grace-exceeded", "garbage")] == [0] * 4


def test_who_is_too_slow(server):
    serving = server(*GENTLE, "--handshake-timeout", "1s")
    with link(serving.port) as sock:
        net.recv_all(sock)
    wait_until(lambda: "127.0.0.2" in penalised(serving), 20, "the source to be penalised")
    assert misdone(serving, "grace-exceeded") == 1


def test_a_penalty_runs_off(server):
    serving = server("--source-penalties", "garbage:1 min:1 max:1", "--penalty-exempt", "none")
    garbage(serving.port)
    serving.wait_log("source penalised")
    wait_until(lambda: not penalised(serving), 20, "the penalty to run off")
    assert taken(serving.port)


def test_exempt_and_off(server):
    """Loopback is exempt unless something else is named; none switches all of it off."""
    for flags in ((), ("--penalty-exempt", "127.0.0.2"), ("--source-penalties", "none", "--penalty-exempt", "none")):
        serving = server(*flags)
        for n in range(3):
            garbage(serving.port)
            wait_until(lambda n=n: misdone(serving, "garbage") == n + 1, 20, "it to be counted")
        assert not penalised(serving) and taken(serving.port)


@pytest.mark.parametrize("flags, word", [
    (("--source-penalties", "authfail"), "authfail"), (("--source-penalties", "crash:3"), "crash"),
    (("--source-penalties", "min:20 max:10"), "min"), (("--penalty-exempt", "10.0.0.1/8"), "--penalty-exempt"),
])
def test_what_is_no_penalty(server, flags, word):
    serving = server(*flags, wait=False)
    serving.expected_status = 2
    assert serving.wait() == 2 and word in serving.log() and flags[0] in serving.log()


def proxied(port, source):
    """A link whose PROXY header says that it comes from an IPv6 address."""
    body = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + struct.pack(">HH", 4711, 22)
    sock = net.connect(port)
    sock.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack(">H", len(body)) + body)
    return sock


def proxied_taken(port, source):
    with proxied(port, source) as sock:
        try:
            return sock.recv(4) == b"SSH-"
        except ConnectionResetError:
            return False


def test_ipv6_counts_by_its_64(server):
    listen = 'listen = { { address = "127.0.0.1:0", proxy_protocol = true, proxy_from = { "127.0.0.0/8" } } }'
    serving = server("--source-penalties", "garbage:600 min:10", conf=listen, listen=None)
    with proxied(serving.port, "2001:db8:1:2::7") as sock:
        sock.sendall(b"\0" * 400)
        net.recv_all(sock)
    wait_until(lambda: "2001:db8:1:2::/64" in penalised(serving), 20, "the network to be penalised")
    assert not proxied_taken(serving.port, "2001:db8:1:2:ffff::1")
    assert proxied_taken(serving.port, "2001:db8:1:3::7")
    serving.call("ban.remove", network="2001:db8:1:2::9")
    assert proxied_taken(serving.port, "2001:db8:1:2::7")
    serving.call("ban.add", network="2001:db8:1::/48")
    assert not proxied_taken(serving.port, "2001:db8:1:9::1") and proxied_taken(serving.port, "2001:db8:2::1")


def test_bans(server, login, workers):
    """Added, listed, kept by a reload, run off, taken back; sessions that are there go on."""
    serving = server(workers=workers)
    wire = login(serving)
    assert serving.call("ban.add", network="127.0.0.0/24", reason="a test")["banned"] == "127.0.0.0/24"
    assert not taken(serving.port) and not taken(serving.port, "127.0.0.1")
    assert wire.is_alive()
    serving.call("reload")
    assert not taken(serving.port)
    (row,) = serving.call("ban.list")["bans"]
    assert row == {"network": "127.0.0.0/24", "kind": "ban", "reason": "a test"}
    assert serving.metric("alknet_bans") == 1
    serving.call("ban.remove", network="127.0.0.0/24")
    assert taken(serving.port)
    begun = time.monotonic()
    serving.call("ban.add", network="127.0.0.2", seconds=2)
    assert not taken(serving.port) or time.monotonic() - begun >= 2
    assert taken(serving.port, "127.0.0.3")
    wait_until(lambda: not serving.call("ban.list")["bans"], 20, "the ban to run off")
    assert taken(serving.port)
    for params in ({"network": "example.com"}, {"network": "10.0.0.1/8"}, {"network": "10.0.0.0/33"}, {"network": "::1", "seconds": 10**12}):
        with pytest.raises(AdminError):
            serving.call("ban.add", **params)
    with pytest.raises(AdminError):
        serving.call("ban.remove", network="192.0.2.1")


def test_limits_hold_across_workers(server, login):
    """Links of one address are counted for all workers together, and so is what it did wrong."""
    serving = server(*GENTLE, "--max-connections-per-ip", "3", "--max-startups", "0:0:0", workers=2)
    wires = [login(serving) for _ in range(3)]
    assert len({s["worker"] for s in serving.call("status")["workers"] if s["sessions"]}) == 2
    assert not taken(serving.port, "127.0.0.1") and taken(serving.port, "127.0.0.9")
    for wire in wires:
        wire.close()
    wait_until(lambda: serving.call("status")["links"] == 0, 20, "the links to be gone")
    for _ in range(2):
        garbage(serving.port)
    wait_until(lambda: "127.0.0.2" in penalised(serving), 20, "the source to be penalised")
    assert not any(taken(serving.port) for _ in range(4))


class Ends:
    """Ways in which a link ends. Each gives what is still open, to be closed later or never."""

    def __init__(self, serving, keys, targets, chance):
        self.serving, self.keys, self.targets, self.chance = serving, keys, targets, chance

    def wire(self):
        return sshwire.Wire(self.serving.port)

    def in_(self):
        return self.wire().login(sshwire.load_key(self.keys.path("user")), "tester")

    def reset(self, sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def at_once(self):
        net.connect(self.serving.port).close()

    def reset_at_once(self):
        self.reset(net.connect(self.serving.port))

    def garbage(self):
        with net.connect(self.serving.port) as sock:
            sock.sendall(self.chance.randbytes(self.chance.randrange(1, 600)))

    def banner_alone(self):
        with net.connect(self.serving.port) as sock:
            sock.sendall(b"SSH-2.0-x\r\n")
            net.recv_exact(sock, 4)

    def half_a_handshake(self):
        self.reset(self.wire().sock)

    def too_slow(self):
        with net.connect(self.serving.port) as sock:
            net.recv_all(sock)

    def wrong_key(self):
        wire = self.wire()
        try:
            wire.login(sshwire.load_key(self.keys.path("stranger")), "tester")
        except Exception:  # whatever it says, it is not in
            pass
        else:
            raise AssertionError("a stranger came in")
        wire.sock.close()

    def login_and_leave(self):
        self.in_().close()

    def reset_with_channels(self):
        wire = self.in_()
        for n in range(self.chance.randrange(1, 5)):
            wire.open_channel(n + 1, "127.0.0.1", self.chance.choice([self.targets.echo, self.targets.refused]))
        self.reset(wire.sock)

    def killed_by_the_operator(self):
        wire = self.in_()
        wire.open_channel(1, "127.0.0.1", self.targets.echo)
        for session in self.serving.sessions():
            with contextlib.suppress(AdminError):  # it has just ended
                self.serving.call("session.kill", id=session["id"])
        wire.sock.close()

    def worker_killed(self):
        wire = self.in_()
        workers = self.serving.workers()
        if workers:
            gone = self.chance.choice(workers)
            os.kill(gone, signal.SIGKILL)
            wait_until(lambda: self.ready(gone), 20, "the workers to be back")
        wire.sock.close()

    def ready(self, gone):
        """What came until the server knew that the worker is dead went with it."""
        workers = self.serving.call("status")["workers"]
        return all(w["pid"] != gone and w["state"] in ("ready", "draining") for w in workers)

    def reloaded(self):
        wire = self.in_()
        self.serving.call("reload")
        self.reset(wire.sock)


GAUGES = [
    "alknet_links", "alknet_startups", "alknet_sessions", "alknet_sessions_authenticated", "alknet_channels", "alknet_remote_listeners",
]


@pytest.mark.parametrize("seed", range(int(os.environ.get("ALKNET_TEST_SEEDS", "2"))))
def test_counters_go_down(server, keys, targets, workers, seed):
    """However sessions end, in whatever order: what is counted goes back to nothing, and so do descriptors."""
    chance = random.Random(seed * 10 + workers)
    serving = server("--handshake-timeout", "15s", "--max-connections-per-ip", "20", "--max-startups", "0:0:0", workers=workers)
    ends = Ends(serving, keys, targets, chance)
    ways = [getattr(ends, name) for name in vars(Ends) if not name.startswith("_") and name not in ("wire", "in_", "reset", "ready")]
    assert len(ways) == 12
    if workers:
        serving.expected_status = 0
    order = ways + chance.choices([way for way in ways if way != ends.too_slow], k=12)
    chance.shuffle(order)
    for way in order:
        way()
    values = lambda: {name: serving.metric(name) for name in GAUGES}  # noqa: E731
    try:
        wait_until(lambda: not any(values().values()), 30, "all to be gone")
    except AssertionError:
        raise AssertionError(f"{values()} after {[way.__name__ for way in order]}") from None
    wait_until(lambda: serving.call("status")["links"] == 0 and serving.metric("alknet_generations") == 1, 30, "old workers to be gone")
    # The address's own count is at 0 again: exactly so many may come.
    held = []
    try:
        while len(held) < 20:
            held.append(ends.in_())
    except (sshwire.Closed, OSError) as error:
        raise AssertionError(f"{len(held)}, {error!r} after {[way.__name__ for way in order]}\n{serving.log()[-3000:]}") from None
    with net.connect(serving.port) as sock:
        try:
            assert sock.recv(4) == b""
        except ConnectionResetError:
            pass
    for wire in held:
        wire.close()


def test_sessions_that_ended_are_no_startups(server, login):
    """Many end while the supervisor does something else: who comes next is not turned away for them."""
    serving = server("--max-startups", "10:100:10", workers=1)
    wires = []
    for n in range(60):
        wires.append(login(serving))
        wait_until(lambda n=n: serving.call("status")["startups"] == 0, 20, "it to be no start-up")
    worker = serving.workers()[0]
    open_before = len(procs.open_files(worker))
    procs.freeze(serving.pid)
    for wire in wires:
        wire.close()
    wait_until(lambda: len(procs.open_files(worker)) <= open_before - 60, 20, "the worker to see them go")
    next_ones = [net.connect(serving.port) for _ in range(9)]
    os.kill(serving.pid, signal.SIGCONT)
    for sock in next_ones:
        with sock:
            assert sock.recv(4) == b"SSH-"
