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
TIMED_OUT = 6  # for SOCKS


class Moody(dns.NameServer):
    """As it should be until `mood(query, answer)` says what to send instead: a list of datagrams, or None for silence."""

    mood = others = None

    def turn(self, mood, load):
        """Who asks first then is let wait until `load` has made round trips: nobody else waits for his name."""
        load.slow = []
        self.others, self.mood = load, mood

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
        if not self.mood:
            return [answer]
        others, self.others = self.others, None
        if others:
            others.round_trips()
        return self.mood(query, answer)


@pytest.fixture
def names(tmp_path):
    if reason := dns.why_not():
        pytest.skip(reason)
    made = Moody(tmp_path)
    made.answers["good.example"] = [["127.0.0.1"]]
    yield made
    made.close()


def opens(connecting, targets):
    """Not in time is no failure yet: the name server is a thread of this process, which may stall for that long."""
    try:
        with net.socks_connect(connecting.port, "good.example", targets.echo, timeout=60) as sock:
            net.ask_echo(sock)
        return True
    except net.ProxyRefused as error:
        if error.code != TIMED_OUT:
            raise
        return False


@pytest.fixture
def pair(request, server, client, targets, names):
    serving = server("--connect-timeout", str(getattr(request, "param", TIMEOUT)), workers=1, wrap=names.wrap())
    connecting = client(serving)
    load = Load(connecting.port, targets)
    load.go_on()
    wait_until(lambda: opens(connecting, targets), 20, "a name server that answers")
    yield serving, connecting, load
    load.enough.set()


def good_again(names, connecting, targets, load):
    names.mood = None
    wait_until(lambda: opens(connecting, targets), 20, "a name server that answers again")
    load.go_on()
    assert load.stop() == 0, load.cut
    assert load.waited() < patient(1), f"round trips waited {load.slow} s for a name"


def refused(connecting, name, to):
    begun = time.monotonic()
    with pytest.raises(net.ProxyRefused):
        net.socks_connect(connecting.port, name, to, timeout=60).close()
    return time.monotonic() - begun


def test_t28_a_dead_name_server(names, pair, targets, size):
    """Silence: each open that waits for it fails within `connect_timeout`, many at once as well, and the rest goes on."""
    serving, connecting, load = pair
    names.turn(lambda query, answer: None, load)
    took = []
    threads = [threading.Thread(target=lambda n=n: took.append(refused(connecting, f"name{n}.example", 80))) for n in range(size(20, 200))]
    for thread in threads:
        thread.start()
    load.go_on(6)
    for thread in threads:
        thread.join(scaled(60))
    assert len(took) == len(threads) and max(took) < TIMEOUT + patient(5), took
    wait_until(lambda: serving.metric("alknet_channels") <= 3, 20, "the opens to be forgotten")
    good_again(names, connecting, targets, load)


@pytest.mark.parametrize("pair", [15], indirect=True)
def test_t28_a_slow_name_server(names, pair, targets):
    """An answer that takes its time is waited for, by the one who asked."""
    serving, connecting, load = pair
    begun = []

    def late(query, answer):
        begun.append(time.monotonic())
        wait_until(lambda: time.monotonic() - begun[0] > 1.5, 20, "time to pass")
        return [answer]

    names.answers["late.example"] = [["127.0.0.1"]]
    names.turn(late, load)
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
    names.turn(lie, load)
    if lie is huge:
        # Addresses that follow the name are an answer, cut or not: at most they are tried, in time.
        try:
            net.socks_connect(connecting.port, "evil.example", targets.refused, timeout=60).close()
        except net.ProxyRefused:
            pass
    else:
        assert refused(connecting, "evil.example", trap.getsockname()[1]) < TIMEOUT + patient(5)
        with pytest.raises(BlockingIOError):
            trap.accept()
    trap.close()
    assert serving.workers() and all(procs.alive(pid) for pid in serving.workers())
    assert serving.metric("alknet_worker_restarts_total") == 0
    good_again(names, connecting, targets, load)
