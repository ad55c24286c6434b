# SPDX-License-Identifier: MIT OR Apache-2.0
"""Calls over the bus: spokes, discovery, answers, ends."""

import contextlib
import json
import os
import signal
import threading
import time

import pytest

from harness import procs, sshwire
from harness.buswire import Peer, failed, frame
from harness.waiting import wait_until
from test_bus import WORKERS, bus  # noqa: F401


SCHEMA = {"type": "object", "required": ["path"], "properties": {"path": {"type": "string", "minLength": 1}}, "additionalProperties": False}
READ = {"name": "/fs/read", "op_type": "query", "input_schema": SCHEMA}
WATCH = {"name": "/fs/watch", "op_type": "subscription"}


def spoke(server, name="dev1", *operations, key="user"):
    peer = server.peer(key)
    answer = peer.register(name, *(operations or (READ, WATCH)))
    assert answer == {"type": "call.responded", "id": "register", "payload": {"output": {"spoke": name}}}, answer
    return peer


@WORKERS
def test_a_call_and_its_answer(bus, workers):
    server = bus(workers)
    dev, callers = spoke(server), [server.peer() for _ in range(3)]
    for caller in callers:
        for n in range(3):
            caller.request("/dev1/fs/read", {"path": f"/{n}"}, "same")
            asked = dev.next()
            assert asked["type"] == "call.requested"
            assert asked["payload"] == {"operationId": "/fs/read", "input": {"path": f"/{n}"}}
            dev.respond(asked["id"], {"text": n})
            assert caller.next() == {"type": "call.responded", "id": "same", "payload": {"output": {"text": n}}}
    # A second answer comes too late.
    dev.respond(asked["id"], {"text": 0})
    dev.send("call.error", asked["id"], {})
    assert dev.sync() == [] and callers[2].sync() == []
    wait_until(lambda: server.metric("late_answers_total") == 2, 20, "the counter")


@WORKERS
def test_answers_in_any_order(bus, workers):
    server = bus(workers)
    dev, caller = spoke(server), server.peer()
    for n in range(20):
        caller.request("/dev1/fs/read", {"path": str(n)}, str(n))
    asked = [dev.next() for _ in range(20)]
    for one in reversed(asked):
        dev.respond(one["id"], one["payload"]["input"])
    got = [caller.next() for _ in range(20)]
    assert [(one["id"], one["payload"]["output"]["path"]) for one in got] == [(str(n), str(n)) for n in reversed(range(20))]


@WORKERS
def test_a_subscription(bus, workers):
    server = bus(workers)
    dev, caller = spoke(server), server.peer()
    caller.request("/dev1/fs/watch")
    asked = dev.next()
    for n in range(5):
        dev.respond(asked["id"], n)
    dev.send("call.completed", asked["id"])
    dev.respond(asked["id"], 9)
    assert [caller.output() for _ in range(5)] == list(range(5))
    assert caller.next()["type"] == "call.completed"
    assert dev.sync() == [] and caller.sync() == []


@WORKERS
def test_errors_and_aborts(bus, workers):
    server = bus(workers)
    dev, caller = spoke(server), server.peer()
    caller.request("/dev1/fs/watch")
    dev.send("call.error", dev.next()["id"], {"code": "INVALID_INPUT", "message": "no such file", "retryable": False})
    assert failed(caller.next(), "INVALID_INPUT") == "no such file"
    caller.request("/dev1/fs/watch")
    dev.send("call.error", dev.next()["id"], "nonsense")
    failed(caller.next(), "INTERNAL")
    told = {"code": "NO_FILE", "message": "it is not there", "retryable": True, "details": {"path": "x"}}
    caller.request("/dev1/fs/watch")
    dev.send("call.error", dev.next()["id"], {**told, "more": 1})
    assert caller.next() == {"type": "call.error", "id": "1", "payload": told}
    caller.request("/dev1/fs/read", {"path": "x"})
    dev.send("call.completed", dev.next()["id"])
    failed(caller.next(), "INTERNAL")
    # An answer has an output, were it null.
    for answer in ({}, [], "text", {"result": 1}):
        caller.request("/dev1/fs/watch")
        asked = dev.next()
        dev.send("call.responded", asked["id"], answer)
        failed(caller.next(), "INTERNAL")
        assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    caller.request("/dev1/fs/read", {"path": "x"})
    dev.respond(dev.next()["id"], None)
    assert caller.output() is None
    # Either side may abort.
    caller.request("/dev1/fs/watch")
    dev.send("call.aborted", dev.next()["id"])
    assert caller.next() == {"type": "call.aborted", "id": "1", "payload": {}}
    caller.request("/dev1/fs/watch")
    asked = dev.next()
    caller.send("call.aborted", "1")
    assert caller.next()["type"] == "call.aborted"
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    caller.send("call.aborted", "1")
    assert caller.sync() == [] and dev.sync() == []


@WORKERS
def test_deadlines(bus, workers):
    server = bus(workers, bus={"call_timeout": 0.3})
    dev, caller = spoke(server), server.peer()
    failed(caller.call("/dev1/fs/read", {"path": "x"}), "TIMEOUT")
    asked = dev.next()
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    failed(caller.call("/dev1/fs/read", {"path": "x"}, deadline=1000), "TIMEOUT")
    deadline = int(time.time() * 1000) + 15000
    caller.request("/dev1/fs/watch", deadline=deadline)
    assert dev.next()["payload"]["deadline"] == deadline
    failed(caller.next(), "TIMEOUT")
    failed(caller.call("/dev1/fs/read", {"path": "x"}, deadline="soon"), "INVALID_INPUT")


@WORKERS
def test_a_spoke_that_dies(bus, workers):
    server = bus(workers)
    dev, caller = spoke(server), server.peer()
    caller.request("/dev1/fs/read", {"path": "x"}, "a")
    caller.request("/dev1/fs/watch", {}, "b")
    for _ in range(2):
        dev.next()
    dev.wire.close()
    assert {(one["id"], one["payload"]["code"]) for one in (caller.next(), caller.next())} == {("a", "UNAVAILABLE"), ("b", "UNAVAILABLE")}
    wait_until(lambda: server.metric("spokes") == 0, 20, "the spoke to be forgotten")
    # The caller's worker hears of it a moment later.
    wait_until(lambda: caller.call("/dev1/fs/read", {"path": "x"})["payload"]["code"] == "NOT_FOUND", 20, "the caller's worker to forget it")
    again = spoke(server)
    caller.request("/dev1/fs/read", {"path": "x"})
    again.respond(again.next()["id"], 1)
    assert caller.output() == 1


@WORKERS
def test_a_caller_that_dies(bus, workers):
    server = bus(workers)
    dev, caller = spoke(server), server.peer()
    caller.request("/dev1/fs/watch")
    asked = dev.next()
    caller.wire.close()
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    dev.send("call.responded", asked["id"])
    assert dev.sync() == []


def test_a_registration_holds_in_every_worker(bus):
    """Also in one that gets to hear of it only after the call, or after the question."""
    server = bus(2, watchdog_timeout=60)
    caller, *peers = (server.peer() for _ in range(8))
    slow = server.conf.worker_of(caller.wire)
    asker = next(peer for peer in peers if server.conf.worker_of(peer.wire) == slow)
    devs = [peer for peer in peers if server.conf.worker_of(peer.wire) != slow]
    assert devs
    for n, dev in enumerate(devs):
        procs.freeze(slow)
        try:
            assert dev.register(f"s{n}", READ)["type"] == "call.responded"
            caller.request(f"/s{n}/fs/read", {"path": "x"})
            asker.request("/services/schema", {"name": f"/s{n}/fs/read"})
        finally:
            os.kill(slow, signal.SIGCONT)
        dev.respond(dev.next()["id"], n)
        assert caller.output() == n
        assert asker.output()["input_schema"] == SCHEMA
    failed(caller.call("/none/of/them"), "NOT_FOUND")
    listed = asker.get("/services/list", {"prefix": "/s"})["operations"]
    assert {f"/s{n}/fs/read" for n in range(len(devs))} <= {one["name"] for one in listed}


def test_a_worker_that_dies(bus):
    server = bus(2)
    peers = [server.peer() for _ in range(6)]
    for n, peer in enumerate(peers):
        peer.register(f"s{n}", WATCH)
    for peer in peers:
        for n in range(6):
            peer.request(f"/s{n}/fs/watch", {}, f"to{n}")
    for peer in peers:
        for _ in range(6):
            assert peer.next()["type"] == "call.requested"
    killed = server.conf.server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in server.conf.server.workers(), 20, "the worker to be gone")
    came = {}
    for n, peer in enumerate(peers):
        with contextlib.suppress(sshwire.Closed, OSError):
            came[n] = peer.sync()
    dead = set(range(6)) - set(came)
    assert came and dead
    for n, got in came.items():
        got += [peers[n].next() for _ in range(2 * len(dead) - len(got))]
        assert {one["id"] for one in got if one["type"] == "call.error"} == {f"to{m}" for m in dead}
        assert sum(one["type"] == "call.aborted" for one in got) == len(dead)
        assert peers[n].sync() == []


def test_a_channel_that_ended_is_no_spoke(bus):
    """Its end came while the policy was asked about its registration."""
    server = bus(1, policy="""
    local go = false
    return {
        on_call = function(session, operation)
            while operation == "/hub/services/register" and not go do alknet.sleep(0.15) end
            return "allow"
        end,
        on_publish = function(session, envelope)
            go = go or envelope.type == "go"
            return "allow"
        end,
    }
    """)
    dev, caller = server.peer().subscribe("a"), server.peer()
    dev.request("/hub/services/register", {"spoke": "dev", "operations": [{"name": "/x"}]})
    dev.end()
    assert dev.wire.is_alive()  # its answer: the end before it was read
    caller.send("go")
    assert "ended" in failed(dev.next(), "INVALID_INPUT")
    failed(caller.call("/dev/x"), "NOT_FOUND")
    caller.send("a", "", {"n": 1})
    assert dev.next()["payload"] == {"n": 1}


def test_names(bus, keys):
    server = bus()
    dev = spoke(server)
    failed(dev.register("dev2", READ), "INVALID_INPUT", "register")
    failed(server.peer().register("dev1", READ), "UNAVAILABLE", "register")
    for name in ("", "hub", "secret", "services", "alknet-x", "a/b", "a b", "x" * 65, 7, None):
        failed(server.peer().register(name, READ), "INVALID_INPUT", "register")


@pytest.mark.parametrize("operation", [
    {}, {"name": "read"}, {"name": "/"}, {"name": "/a//b"}, {"name": "/a b"}, {"name": 1}, {"name": "/" + "x" * 250}, {"name": "/a", "op_type": "x"},
    {"name": "/a", "access_control": []}, {"name": "/a", "access_control": {"required_scopes": "x"}}, {"name": "/a", "access_control": {"required_scopes": [1]}},
    {"name": "/a", "input_schema": {"pattern": "x"}}, {"name": "/a", "input_schema": {"type": "text"}}, {"name": "/a", "output_schema": {"$ref": "#"}},
    {"name": "/a", "input_schema": 7}, {"name": "/a", "input_schema": {"properties": {"x": {"anyOf": []}}}},
    {"name": "/a", "input_schema": {"items": {"required": ["a", "b", "a"]}}},
])
def test_bad_operations(bus, operation):
    peer = bus().peer()
    failed(peer.register("dev", operation), "INVALID_INPUT", "register")
    assert peer.register("dev", "/a", "/b")["type"] == "call.responded"


def test_twice_the_same_operation(bus):
    failed(bus().peer().register("dev", "/a", "/b", "/a"), "INVALID_INPUT", "register")


def test_input_is_checked(bus):
    server = bus()
    dev, caller = spoke(server), server.peer()
    assert failed(caller.call("/dev1/fs/read", {}), "INVALID_INPUT") == "/path: is missing"
    assert failed(caller.call("/dev1/fs/read", {"path": 7}), "INVALID_INPUT") == "/path: has the wrong type"
    assert failed(caller.call("/dev1/fs/read", {"path": "x", "more": 1}), "INVALID_INPUT") == "/more: may not be there"
    assert dev.sync() == []
    # Whole numbers are compared as such.
    count = spoke(server, "dev2", {"name": "/count", "input_schema": {"maximum": 1 << 53, "exclusiveMinimum": -(1 << 53)}})
    assert failed(caller.call("/dev2/count", (1 << 53) + 1), "INVALID_INPUT") == "/: is too large"
    assert failed(caller.call("/dev2/count", -(1 << 53)), "INVALID_INPUT") == "/: is too small"
    for good in (1 << 53, 1 - (1 << 53), -0.5):
        caller.request("/dev2/count", good)
        count.respond(count.next()["id"], 1)
        assert caller.output() == 1


@WORKERS
def test_numbers_stay_what_they_are(bus, workers):
    """A call is written anew on its way; so that a text is the same number, and no longer."""
    server = bus(workers)
    dev, caller = spoke(server, "dev1", "/x"), server.peer()
    text = b'[0.1,21.3,-1.5,100.0,1e-07,9007199254740993,0.30000000000000004,1.2345678901234567e+20,"0.10000000000000001 \\"1"]'
    caller.raw(frame(b'{"type":"call.requested","id":"1","payload":{"operationId":"/dev1/x","input":' + text + b"}}"))
    while b'"]' not in dev.buffer:
        dev.fill()
    assert text.replace(b"e+20", b"e20") in dev.buffer.replace(b"e+20", b"e20")
    asked = dev.next()
    dev.respond(asked["id"], asked["payload"]["input"])
    assert caller.output() == json.loads(text)


@WORKERS
def test_what_became_longer_than_a_frame(bus, workers):
    server = bus(workers, bus={"max_frame": 4096})
    dev, caller = spoke(server, "dev1", "/x", WATCH), server.peer()
    id_ = "i" * 200
    for operation in ("/dev1/x", "/dev1/fs/watch"):
        caller.request(operation, {}, id_)
        asked = dev.next()
        dev.raw(frame(b'{"type":"call.responded","id":"%s","payload":{"output":"' % asked["id"].encode() + b"x" * 4000 + b'"}}'))
        failed(caller.next(), "INTERNAL", id_)
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    caller.raw(frame(b'{"type":"call.requested","id":"1","payload":{"operationId":"/dev1/x","input":[' + b"1e9," * 900 + b"1]}}"))
    failed(caller.next(), "INVALID_INPUT")
    assert dev.sync() == [] and caller.sync() == []


def test_the_hubs_own_operations_are_checked_too(bus):
    peer = bus().peer()
    for name, type_ in (("/services/list", "query"), ("/services/schema", "query"), ("/hub/services/register", "mutation")):
        shown = peer.get("/services/schema", {"name": name})
        assert shown["op_type"] == type_ and shown["input_schema"] and shown["output_schema"] and shown["access_control"] == {}
    assert failed(peer.call("/services/list", {"prefix": 7}), "INVALID_INPUT") == "/prefix: has the wrong type"
    failed(peer.call("/services/list", "x"), "INVALID_INPUT")
    peer.raw(frame({"type": "call.requested", "id": "1", "payload": {"operationId": "/services/list"}}))
    assert len(peer.output()["operations"]) >= 3
    failed(peer.call("/services/schema", {"name": 7}), "INVALID_INPUT")
    failed(peer.call("/hub/services/register", {"spoke": "dev"}), "INVALID_INPUT")


def test_discovery(bus):
    server = bus()
    dev, caller = spoke(server, "dev1", READ, WATCH, {"name": "/root", "access_control": {"required_scopes": ["admin"]}}), server.peer()
    listed = caller.get("/services/list", {"prefix": "/dev1/"})["operations"]
    assert sorted(listed, key=str) == [{"name": "/dev1/fs/read", "op_type": "query"}, {"name": "/dev1/fs/watch", "op_type": "subscription"}]
    shown = caller.get("/services/schema", {"name": "/dev1/fs/read"})
    assert shown["input_schema"] == SCHEMA and shown["op_type"] == "query"
    failed(caller.call("/services/schema", {"name": "/dev1/root"}), "NOT_FOUND")
    failed(caller.call("/services/schema", {}), "INVALID_INPUT")
    failed(caller.call("/dev1/root"), "FORBIDDEN")
    failed(caller.call("/dev1/other"), "NOT_FOUND")
    failed(caller.call("/secret/unlock"), "FORBIDDEN" if procs.is_built("secret") else "NOT_FOUND")
    assert dev.sync() == []


SCOPES = """return {
  on_auth = function() return "allow", { id = "me", scopes = { "a", "b" } } end,
  on_call = function(session, operation)
    if alknet.glob("/*/fs/*", operation) then return "deny", "no files" end
    return "allow"
  end,
  on_open = function() return "service", "bus" end,
}"""


def test_scopes_and_the_policy(bus):
    server = bus(policy=SCOPES)
    rules = {"both": {"required_scopes": ["a", "b"]}, "more": {"required_scopes": ["a", "c"]}, "any": {"required_scopes_any": ["x", "b"]}, "none": {"required_scopes_any": ["x"]}}
    dev = spoke(server, "dev1", "/fs/read", *({"name": f"/{name}", "access_control": rule} for name, rule in rules.items()))
    caller = server.peer()
    assert failed(caller.call("/dev1/fs/read"), "FORBIDDEN") == "no files"
    for name, good in (("both", True), ("more", False), ("any", True), ("none", False)):
        caller.request(f"/dev1/{name}")
        if good:
            dev.respond(dev.next()["id"], name)
            assert caller.output() == name
        else:
            failed(caller.next(), "FORBIDDEN")


WHO = """return {
  on_auth = function(request) return "allow", { id = request.user } end,
  on_open = function() return "service", "bus" end,
}"""


def test_a_name_belongs_to_who_took_it(bus, keys):
    server = bus(2, policy=WHO)

    def peer(user):
        wire = sshwire.Wire(server.conf.port)
        server.conf.wires.append(wire)
        return Peer(wire.login(sshwire.load_key(keys.path("user")), user))

    first = peer("alice")
    assert first.register("dev1", "/a")["type"] == "call.responded"
    failed(peer("bob").register("dev1", "/a"), "FORBIDDEN", "register")
    first.wire.close()
    wait_until(lambda: server.metric("spokes") == 0, 20, "the spoke to go")
    failed(peer("bob").register("dev1", "/a"), "FORBIDDEN", "register")
    assert peer("alice").register("dev1", "/a")["type"] == "call.responded"


def test_bad_calls(bus):
    server = bus(bus={"max_calls": 2})
    spoke(server)
    caller = server.peer()
    for wrong in ({}, {"operationId": 1}, {"operationId": ""}, {"operationId": "x"}, {"operationId": "/" + "x" * 255}, [], 7, "x"):
        caller.raw(frame({"type": "call.requested", "id": "1", "payload": wrong}))
        failed(caller.next(), "INVALID_INPUT")
    caller.request("/dev1/fs/watch", {}, "a")
    failed(caller.call("/dev1/fs/watch", {}, "a"), "INVALID_INPUT", "a")
    caller.request("/dev1/fs/watch", {}, "b")
    failed(caller.call("/dev1/fs/watch", {}, "c"), "OVERLOADED", "c")
    caller.send("call.responded", "unknown")
    caller.send("call.responded", "~1")
    assert caller.sync() == []


def test_a_spoke_that_does_not_read(bus):
    server = bus(bus={"max_queue": "300K", "max_calls": 1000})
    dev = server.peer(window=100000)
    dev.register("dev1", WATCH)
    caller = server.peer()
    for n in range(100):
        caller.request("/dev1/fs/watch", "x" * 10000, str(n))
    failed(caller.next(), "OVERLOADED", None)


def test_admin_calls(bus):
    server = bus(2)
    dev = spoke(server)
    assert {"name": "/dev1/fs/watch", "op_type": "subscription"}.items() <= server.conf.call("operation.list")[1].items()
    result = []
    thread = threading.Thread(target=lambda: result.append(server.conf.call("operation.call", operation="/dev1/fs/read", input='{"path": "x"}')))
    thread.start()
    asked = dev.next()
    assert asked["payload"] == {"operationId": "/fs/read", "input": {"path": "x"}}
    dev.respond(asked["id"], {"n": 7})
    thread.join()
    assert result == [{"n": 7}]
    # Of many answers the first is the answer, and nobody waits for the others.
    thread = threading.Thread(target=lambda: result.append(server.conf.call("operation.call", operation="/dev1/fs/watch")))
    thread.start()
    asked = dev.next()
    dev.respond(asked["id"], {"n": 8})
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    thread.join()
    assert result == [{"n": 7}, {"n": 8}]
    with pytest.raises(procs.AdminError, match="NOT_FOUND"):
        server.conf.call("operation.call", operation="/dev2/x")


@WORKERS
def test_a_spoke_that_sends_no_more_ends_its_calls(bus, workers):
    """It still listens, so its channel lives; but nobody would ever answer."""
    server = bus(workers)
    dev, caller = spoke(server), server.peer()
    dev.subscribe("x")
    caller.request("/dev1/fs/watch")
    asked = dev.next()
    dev.respond(asked["id"], 1)
    assert caller.output() == 1
    dev.end()
    failed(caller.next(), "UNAVAILABLE")
    caller.send("x")
    assert dev.next()["type"] == "x"
    assert caller.sync() == []
