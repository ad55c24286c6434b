# SPDX-License-Identifier: MIT OR Apache-2.0
"""Name servers that are dead, slow or liars (T28): one open waits for them, and nothing else does."""

import socket
import struct
import threading
import time

import pytest

from harness import dns, net, procs
from harness.load import Load
from harness.waiting import patient, scaled, wait_until

TIMEOUT = 4


class Moody(dns.NameServer):
    """As it should be until `mood(query, answer)` says what to send instead: a list of datagrams, or None for silence."""

    mood = None

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
                for datagram in self._moodily(query) or ():
                    self.socket.sendto(datagram, peer)
            except OSError:
                return

    def _moodily(self, query):
        answer = self._answer(query)
        return self.mood(query, answer) if self.mood else [answer]


@pytest.fixture
def names(tmp_path):
    if reason := dns.why_not():
        pytest.skip(reason)
    made = Moody(tmp_path)
    made.answers["good.example"] = [["127.0.0.1"]]
    yield made
    made.close()


@pytest.fixture
def pair(server, client, targets, names):
    serving = server("--connect-timeout", str(TIMEOUT), workers=1, wrap=names.wrap())
    connecting = client(serving)
    load = Load(connecting.port, targets)
    load.go_on()
    with net.socks_connect(connecting.port, "good.example", targets.echo) as sock:
        net.ask_echo(sock)
    yield serving, connecting, load
    load.enough.set()


def good_again(names, connecting, targets, load):
    names.mood = None
    with net.socks_connect(connecting.port, "good.example", targets.echo) as sock:
        net.ask_echo(sock)
    load.go_on()
    assert load.stop() == 0, load.cut
    assert load.slowest < patient(1), f"a round trip waited {load.slowest:.2f} s for a name"


def refused(connecting, name, to):
    begun = time.monotonic()
    with pytest.raises(net.ProxyRefused):
        net.socks_connect(connecting.port, name, to, timeout=60).close()
    return time.monotonic() - begun


def test_t28_a_dead_name_server(names, pair, targets, size):
    """Silence: each open that waits for it fails within `connect_timeout`, many at once as well, and the rest goes on."""
    serving, connecting, load = pair
    names.mood = lambda query, answer: None
    load.slowest = 0
    took = []
    threads = [threading.Thread(target=lambda n=n: took.append(refused(connecting, f"name{n}.example", 80))) for n in range(size(20, 200))]
    for thread in threads:
        thread.start()
    load.go_on(6)
    for thread in threads:
        thread.join(scaled(60))
    assert len(took) == len(threads) and max(took) < TIMEOUT + patient(1), took
    wait_until(lambda: serving.metric("alknet_channels") <= 3, 20, "the opens to be forgotten")
    good_again(names, connecting, targets, load)


def test_t28_a_slow_name_server(names, pair, targets):
    """An answer that takes its time is waited for, by the one who asked."""
    serving, connecting, load = pair
    begun = []

    def late(query, answer):
        begun.append(time.monotonic())
        wait_until(lambda: time.monotonic() - begun[0] > 1.5, 20, "time to pass")
        return [answer]

    names.answers["late.example"] = [["127.0.0.1"]]
    names.mood = late
    load.slowest = 0
    with net.socks_connect(connecting.port, "late.example", targets.echo, timeout=60) as sock:
        net.ask_echo(sock)
    assert time.monotonic() - begun[0] >= 1.5
    good_again(names, connecting, targets, load)


def wrong_id(query, answer):
    return [bytes([query[0] ^ 0xFF, query[1] ^ 0x55]) + answer[2:]]


def other_question(query, answer):
    return [answer.replace(b"\x04evil", b"\x04lamb")]


def loop(query, answer):
    """A name that points at itself."""
    return [query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + query[12:] + b"\xc0" + bytes([len(query)]) + answer[-14:]]


def short(query, answer):
    return [answer[:n] for n in range(len(answer))]


def huge(query, answer):
    """A thousand addresses that are no answer to what was asked."""
    record = b"\xc0\x0c" + struct.pack("!HHIH4s", 1, 1, 0, 4, bytes([127, 0, 0, 9]))
    return [query[:2] + struct.pack("!HHHHH", 0x8180, 1, 65535, 0, 0) + query[12:] + record * 1000]


def noise(query, answer):
    return [bytes(range(256)) * 4, b"", query, query[:2] + b"\xff" * 510]


@pytest.mark.parametrize("lie", [wrong_id, other_question, loop, short, huge, noise])
def test_t28_a_name_server_that_lies(names, pair, targets, lie):
    """What is no answer is not believed: no connection to the address in it, an open that fails in time, and nothing else is hurt."""
    serving, connecting, load = pair
    trap = socket.create_server(("127.0.0.9", 0))
    trap.setblocking(False)
    names.answers["evil.example"] = [["127.0.0.9"]]
    names.mood = lie
    load.slowest = 0
    if lie is huge:
        # Addresses that follow the name are an answer, cut or not: at most they are tried, in time.
        try:
            net.socks_connect(connecting.port, "evil.example", targets.refused, timeout=60).close()
        except net.ProxyRefused:
            pass
    else:
        assert refused(connecting, "evil.example", trap.getsockname()[1]) < TIMEOUT + patient(1)
        with pytest.raises(BlockingIOError):
            trap.accept()
    trap.close()
    assert serving.workers() and all(procs.alive(pid) for pid in serving.workers())
    assert serving.metric("alknet_worker_restarts_total") == 0
    good_again(names, connecting, targets, load)
