# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is on its way between workers and the hub is bounded, and one connection does not take all of it."""

import contextlib
import os
import signal
import threading

import pytest

from harness import procs
from harness.buslocal import Local
from harness.buswire import error, failed, frame
from test_bus import bus  # noqa: F401

WINDOW = 4 << 20


@contextlib.contextmanager
def stopped(pid):
    procs.freeze(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_t62_a_flood_leaves_a_share_to_others(bus, tmp_path):
    """Nothing is taken by the hub, so the flood stands still; who sends little at the same worker does not."""
    path, size, count = tmp_path / "bus.sock", 64 << 10, 160
    server = bus(1, bus={"listen": f"unix:{path}", "max_queue": "64M"})
    hears, flood, other = (Local(path) for _ in range(3))
    hears.subscribe("flood").subscribe("other")
    payload = {"text": "x" * size, "retain": True}  # what is retained goes to the hub
    sender = threading.Thread(target=lambda: [flood.send("flood", str(n), payload) for n in range(count)])
    came = []
    with stopped(server.conf.server.pid):
        sender.start()
        while len(came) < WINDOW // 2 // (size + 200):
            came.append(hears.next())
        for n in range(20):
            other.send("other", str(n), {"retain": True})
            while (one := hears.next())["type"] == "flood":
                came.append(one)
            assert one["id"] == str(n)
        assert len(came) * size < WINDOW // 2 + 2 * size
    while len(came) < count:
        came.append(hears.next())
    sender.join()
    assert [one["id"] for one in came] == [str(n) for n in range(count)]
    assert hears.sync() == [] and flood.sync() == []


def heard(peer):
    """What came until the hub, too, had worked on all that was sent: it answers subscriptions."""
    came = []
    peer.send("__subscribe", "heard", {"topic": "heard"})
    while (one := peer.next())["id"] != "heard":
        came.append(one)
    return came


def apart(server):
    """One channel, and one at another worker, and the worker of the first."""
    first, *peers = (server.peer() for _ in range(4))
    slow = server.conf.worker_of(first.wire)
    return first, next(peer for peer in peers if server.conf.worker_of(peer.wire) != slow), slow


BIG, COUNT = "x" * 500_000, 60  # 30 MB, and 16 MiB may wait for a worker


def test_calls_to_a_worker_that_does_not_keep_up(bus):
    server = bus(2, watchdog_timeout=120, bus={"max_queue": "64M"})
    dev, caller, slow = apart(server)
    dev.register("dev", "/x")
    got = []
    with stopped(slow):
        for n in range(COUNT):
            caller.request("/dev/x", BIG, str(n))
            got += caller.sync()
        got += heard(caller)
    assert 0 < len(got) < COUNT
    for one in got:
        error(one, "OVERLOADED", type_="call.error")
    for asked in [dev.next() for _ in range(COUNT - len(got))]:
        dev.respond(asked["id"], 1)
        got.append(caller.next())
        assert got[-1]["type"] == "call.responded", got[-1]
    assert sorted(int(one["id"]) for one in got) == list(range(COUNT))
    assert dev.sync() == [] and caller.sync() == []
    assert slow in server.conf.server.workers()
    # It keeps up again.
    caller.request("/dev/x")
    dev.respond(dev.next()["id"], 2)
    assert caller.output() == 2


def test_answers_to_a_worker_that_does_not_keep_up(bus):
    server = bus(2, watchdog_timeout=120, bus={"max_queue": "64M"})
    caller, dev, slow = apart(server)
    dev.register("dev", {"name": "/x", "op_type": "subscription"})
    caller.request("/dev/x")
    asked, told = dev.next()["id"], []
    with stopped(slow):
        for _ in range(COUNT):
            dev.respond(asked, BIG)
            told += dev.sync()
    assert told == [{"type": "call.aborted", "id": asked, "payload": {}}]
    got = 0
    while (one := caller.next())["type"] == "call.responded":
        got += 1
    error(one, "OVERLOADED", "1", "call.error")
    assert 0 < got < COUNT
    assert dev.sync() == [] and caller.sync() == []
    assert slow in server.conf.server.workers()


def test_short_answers_to_a_worker_that_does_not_keep_up(bus):
    """What is short goes through for longer, not for ever."""
    server = bus(2, watchdog_timeout=120, bus={"max_queue": "64M"})
    caller, dev, slow = apart(server)
    dev.register("dev", {"name": "/x", "op_type": "subscription"})
    caller.request("/dev/x")
    asked, told, sent = dev.next()["id"], [], 0
    many = frame({"type": "call.responded", "id": asked, "payload": {"output": "y" * 850}}) * 1000
    with stopped(slow):
        while not told and sent < 60_000:
            dev.raw(many)
            sent += 1000
            told += dev.sync()
    assert told == [{"type": "call.aborted", "id": asked, "payload": {}}] and sent > 30_000
    got = 0
    while (one := caller.next())["type"] == "call.responded":
        got += 1
    error(one, "OVERLOADED", "1", "call.error")
    assert 0 < got < sent
    assert dev.sync() == [] and caller.sync() == []
    assert slow in server.conf.server.workers()


def test_many_long_lists_at_once(bus, tmp_path):
    """One list is made in a turn of the loop, and no further than a frame: the watchdog sees a worker that lives."""
    path = tmp_path / "bus.sock"
    server = bus(1, max_channels=256, bus={"listen": f"unix:{path}"}, watchdog_timeout=20)
    operations = [{"name": f"/{n:03}".ljust(190, "x")} for n in range(256)]
    spokes, askers = [Local(path) for _ in range(64)], [Local(path) for _ in range(160)]
    for n, spoke in enumerate(spokes):
        assert spoke.register(f"{n:02}".ljust(64, "s"), *operations)["type"] == "call.responded"
    workers = server.conf.server.workers()
    with stopped(workers[0]):
        for asker in askers:
            asker.request("/services/list")
    other = server.peer()
    assert other.sync() == []
    for asker in askers:
        failed(asker.next(), "OVERLOADED")
    assert len(other.get("/services/list", {"prefix": "/07"})["operations"]) == 256
    assert server.conf.server.workers() == workers


@pytest.mark.parametrize("first", ["end", "call"])
def test_a_call_that_crosses_its_servers_end(bus, first):
    """The channel lives on, for its events, and can answer no more."""
    server = bus(2, watchdog_timeout=120)
    dev, caller, slow = apart(server)
    dev.subscribe("a")
    dev.register("dev", "/x")
    with stopped(slow):
        if first == "end":
            dev.end()
        caller.request("/dev/x")
        assert heard(caller) == []
        if first == "call":
            dev.end()
    failed(caller.next(), "UNAVAILABLE")
    caller.send("a", "", {"n": 1})
    while (one := dev.next())["type"] != "a":
        assert one["type"] == "call.requested", one
