# SPDX-License-Identifier: MIT OR Apache-2.0
"""Bad input at each of the bus's three ways in: a channel, the server's local socket, the socket of `connect --bus`. The
connection ends where it must, and nothing else is touched (THREATS 60 to 63)."""

import struct

import pytest

from harness.buslocal import Local
from harness.buswire import Peer, either, frame
from harness.configured import Configured
from harness.waiting import wait_until
from test_bus import BAD_JSON

HUGE = 64


class Way:
    def __init__(self, configured, kind, path):
        self.conf, self.kind, self.path = configured, kind, path

    def peer(self):
        return Peer(self.conf.login()) if self.kind == "channel" else Local(self.path)

    def memory(self):
        return self.conf.server.memory()


@pytest.fixture(params=["channel", "socket", "connect"])
def way(request, keys, tmp_path, running_programs, client):
    made = []

    def start(**bus):
        path = tmp_path / "bus.sock"
        made.append(Configured(keys, tmp_path, running_programs, bus={"listen": f"unix:{path}", **bus}))
        if request.param == "connect":
            path = tmp_path / "far.sock"
            client(made[-1].server, "--bus", f"unix:{path}")
        return Way(made[-1], request.param, path)

    yield start
    for one in made:
        one.close()


def untouched(bystander, sender):
    sender.send("fine")
    assert bystander.next()["type"] == "fine"


def test_t60_lengths(way):
    at = way()
    bystander, sender = at.peer().subscribe("fine"), at.peer()
    for length in (0, 0xFFFFFFFF, (4 << 20) + 1):
        bad = at.peer()
        bad.raw(struct.pack(">I", length))
        either(bad.next(), "INVALID_FRAME", "")
        bad.wait_close()
        untouched(bystander, sender)
    text = frame({"type": "fine", "id": "7", "payload": {"n": 1}})
    for cut in range(1, len(text)):
        sender.raw(text[:cut])
        sender.raw(text[cut:])
    for _ in range(1, len(text)):
        assert bystander.next()["id"] == "7"
    for part in (b"\0\0", b"\0\0\0\5{"):
        bad = at.peer()
        bad.raw(part)
        bad.end()
        either(bad.next(), "INVALID_FRAME", "")
        bad.wait_close()
    untouched(bystander, sender)


def test_t60_nothing_is_kept_for_a_length(way, sanitized):
    """What is announced takes no memory, what came is given back."""
    at = way()
    bystander, sender = at.peer().subscribe("fine"), at.peer()
    untouched(bystander, sender)
    before = at.memory()
    held = [at.peer() for _ in range(HUGE)]
    for one in held:
        one.raw(struct.pack(">I", 1 << 20) + b"{")
    untouched(bystander, sender)
    # Sessions of the channel way cost their own.
    assert at.memory() - before < HUGE * (256 << 10)
    for one in held:
        one.raw(b"x" * 300_000)
    untouched(bystander, sender)
    for one in held:
        one.end()
        either(one.next(), "INVALID_FRAME")
        one.wait_close()
        if at.kind == "channel":
            one.wire.close()  # a session keeps buffers of its own
    if not sanitized:  # AddressSanitizer keeps what was freed
        wait_until(lambda: at.memory() - before < HUGE * (256 << 10), 30, "the memory of what was cut short")
    untouched(bystander, sender)


def test_t60_a_length_that_never_arrives(way):
    at = way(frame_timeout=1)
    bystander, sender = at.peer().subscribe("fine"), at.peer()
    bad = at.peer()
    bad.raw(struct.pack(">I", 100) + b"{")
    untouched(bystander, sender)
    # A client's socket waits as long as a server does by default, 30 s.
    either(bad.next(), "INVALID_FRAME", "")
    bad.wait_close()
    untouched(bystander, sender)


def test_t61_json(way):
    at = way()
    bystander, sender = at.peer().subscribe("fine"), at.peer()
    for text in BAD_JSON:
        bad = at.peer()
        bad.raw(frame(text))
        either(bad.next(), "INVALID_FRAME")
        bad.wait_close()
    untouched(bystander, sender)
    wait_until(lambda: at.conf.server.metric("alknet_bus_invalid_frames_total") == len(BAD_JSON), 20, "the counter")


def test_t62_a_slow_subscriber(way):
    at = way(max_queue="300K")
    slow, sender = at.peer(), at.peer()
    slow.subscribe("a")
    count, text = 4000, "x" * 8000
    for n in range(count):
        sender.send("a", str(n), text)
    assert sender.sync() == []  # a publisher is not slowed
    wait_until(lambda: at.conf.server.metric("alknet_bus_dropped_total") > 0, 60, "events to be dropped")
    got, lost, last = 0, 0, -1
    while last < count - 1:
        one = slow.next()
        if one["type"] == "__dropped":
            lost += one["payload"]["count"]
            continue
        assert int(one["id"]) > last
        got, last = got + 1, int(one["id"])
    assert got + lost == count and lost > 0


def test_t63_ids_names_and_references(way):
    at = way()
    everything, peer = at.peer().subscribe(">"), at.peer()
    peer.send("a", "x" * 1_000_000)
    either(peer.next(), "INVALID_INPUT", "")
    for type_, id_ in (("__other", "x"), ("call.other", "x"), ("error", "x"), ("alknet-control", "x"), ("a.*", "x"), ("a\nb", "x"),
                       ("x" * 256, "x"), ("a", "\x07")):
        peer.send(type_, id_)
        either(peer.next(), "INVALID_INPUT", id_)
    peer.send("__unsubscribe", "nobody")
    either(peer.next(), "NOT_FOUND", "nobody")
    peer.send("__subscribe", "x" * 256, {"topic": "a"})
    either(peer.next(), "INVALID_INPUT", "")
    for payload in ({}, {"operationId": 1}, {"operationId": "x"}, {"operationId": "/x", "deadline": "soon"}):
        peer.send("call.requested", "c", payload)
        either(peer.next(), "INVALID_INPUT", "c")
    either(peer.call("/none/here"), "NOT_FOUND")
    peer.respond("~99", {})  # nobody's answer: dropped
    assert peer.subscribe("a", "mine").sync() == []
    peer.send("a", "", 1)  # and nobody hears himself
    assert everything.next()["type"] == "a"
    assert peer.sync() == [] and everything.sync() == []
    huge = at.peer()
    huge.raw(frame({"type": "a", "id": "x" * (1 << 20), "payload": 1}))
    either(huge.next(), "INVALID_FRAME", "")
    huge.wait_close()
    assert everything.sync() == []
