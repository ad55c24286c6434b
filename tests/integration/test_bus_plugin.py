# SPDX-License-Identifier: MIT OR Apache-2.0
"""A plugin's own operation on the bus (alknet/bus.h): a subscription, which watch.c offers."""

import pytest

from harness import procs
from harness.buswire import failed
from harness.plugins import build
from test_bus import WORKERS, bus  # noqa: F401

COUNT = "/watch/count"


@pytest.fixture
def watched(bus, tmp_path):  # noqa: F811
    plugins = build(tmp_path, "watch", "bus")
    return lambda workers=1, **options: bus(workers, env=procs.environment(ALKNET_PLUGIN_DIR=None), plugin_dir=plugins, **options)


def aborted(server, count=1):
    server.conf.server.wait_log(r'msg="watch aborted" known=true', count=count)


@WORKERS
def test_answers_and_their_end(watched, workers):
    caller = watched(workers).peer()
    assert caller.get("/services/schema", {"name": COUNT})["op_type"] == "subscription"
    for n in (1, 5):
        caller.request(COUNT, n)
        assert [caller.output() for _ in range(n)] == list(range(1, n + 1))
        assert caller.next()["type"] == "call.completed"
    failed(caller.call(COUNT, "many"), "INVALID_INPUT")
    assert caller.sync() == []


@WORKERS
def test_who_waits_no_more(watched, workers):
    server = watched(workers)
    caller = server.peer()
    caller.request(COUNT, 0)
    assert caller.output() == 0
    failed(caller.call(COUNT, 0, "2"), "OVERLOADED", "2")
    caller.send("call.aborted", "1")
    assert caller.next()["type"] == "call.aborted"
    aborted(server)
    caller.request(COUNT, 0)
    assert caller.output() == 0
    caller.wire.close()
    aborted(server, 2)
    # The administrator wants one answer.
    assert server.conf.call("operation.call", operation=COUNT, input="0") == 0
    aborted(server, 3)


def test_a_caller_that_does_not_keep_up(watched):
    server = watched(bus={"max_queue": 65536})
    caller = server.peer(window=1000)
    caller.request(COUNT, -1)
    aborted(server)
    caller.window(1 << 30)
    last = next(one for one in iter(caller.next, None) if one["type"] != "call.responded")
    failed(last, "OVERLOADED")


def test_the_plugin_goes(watched):
    server = watched()
    caller = server.peer()
    caller.request(COUNT, 0)
    assert caller.output() == 0
    server.conf.call("plugin.unload", name="watch")
    failed(caller.next(), "UNAVAILABLE")
    aborted(server)
    failed(caller.call(COUNT, 1), "NOT_FOUND")
