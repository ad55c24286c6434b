# SPDX-License-Identifier: MIT OR Apache-2.0
"""The policy on the bus: operations in Lua, events that it gets and publishes, what it is asked about who may."""

import json

import pytest

from harness import procs, sshwire
from harness.buswire import Peer, error, failed, frame
from harness.waiting import wait_until
from test_bus import WORKERS, bus  # noqa: F401

SCRIPT = """
local seen = 0
alknet.operation("/math/add", {
	op_type = "query",
	input_schema = { type = "object", required = { "a", "b" },
		properties = { a = { type = "number" }, b = { type = "number" } } },
	output_schema = { type = "object", required = { "sum" }, properties = { sum = { type = "integer" } } },
}, function(input)
	return { sum = input.a + input.b }
end)
alknet.operation("/who/am", { access_control = { required_scopes = { "who" } } }, function(input, session)
	return { id = session.identity.id, scopes = session.identity.scopes, link = session.link ~= nil, input = input }
end)
alknet.operation("/slow/sleep", { op_type = "mutation" }, function(input)
	alknet.sleep(input.seconds)
	return "slept"
end)
alknet.operation("/slow/resolve", {}, function(input)
	return alknet.resolve(input) or "no"
end)
alknet.operation("/bad/error", {}, function() error("the secret reason") end)
alknet.operation("/bad/loop", {}, function() while true do end end)
alknet.operation("/bad/value", {}, function() return print or function() end end)
alknet.operation("/bad/code", {}, function() return nil, "NO_SUCH_USER", "who is that?" end)
local e = "\\xc3\\xa9"
alknet.operation("/bad/text", {}, function(input)
	if input == "code" then return nil, e:sub(1, 1), "x" end
	return nil, "BAD", input == "whole" and e or e:sub(1, 1)
end)
alknet.operation("/bad/nothing", {}, function() end)
return {
	on_auth = function(request)
		return "allow", { id = request.user, scopes = { request.user == "alice" and "who" or "x" } }
	end,
}
"""


def script(start, workers, text, **bus_options):
    return start(workers, policy=text, **bus_options)


def who(server, user):
    wire = sshwire.Wire(server.conf.port)
    return Peer(wire.login(sshwire.load_key(server.conf.keys.path("user")), user))


@WORKERS
def test_operations(bus, workers):
    server = script(bus, workers, SCRIPT)
    for peer in [who(server, "alice") for _ in range(2 * max(workers, 1))]:
        peer.request("/math/add", {"a": 2, "b": 3})
        assert peer.next() == {"type": "call.responded", "id": "1", "payload": {"output": {"sum": 5}}}
        peer.request("/math/add", {"a": "2", "b": 3})
        assert "a" in failed(peer.next(), "INVALID_INPUT")
        # What does not fit its own schema is the operation's mistake.
        peer.request("/math/add", {"a": 0.5, "b": 0.25})
        failed(peer.next(), "INTERNAL")
        peer.request("/who/am", [1, 2])
        assert peer.output() == {"id": "alice", "scopes": ["who"], "link": True, "input": [1, 2]}
        peer.request("/slow/sleep", {"seconds": 0.01})
        assert peer.output() == "slept"
        peer.request("/slow/resolve", "127.0.0.1")
        assert peer.output() == ["127.0.0.1"]
        peer.request("/bad/error")
        assert "secret" not in failed(peer.next(), "INTERNAL")
        peer.request("/bad/loop")
        failed(peer.next(), "INTERNAL")
        peer.request("/bad/value")
        failed(peer.next(), "INTERNAL")
        assert peer.sync() == []
        peer.request("/bad/code")
        assert failed(peer.next(), "NO_SUCH_USER") == "who is that?"
        # Text that is no UTF-8 cannot be told; that something failed can.
        for what, code in [("part", "INTERNAL"), ("code", "INTERNAL"), ("whole", "BAD")]:
            peer.request("/bad/text", what)
            assert failed(peer.next(), code) == "\u00e9" or code == "INTERNAL"
        peer.request("/bad/nothing")
        assert peer.output() is None
        peer.request("/who/am", [None])
        failed(peer.next(), "INVALID_INPUT")
        peer.request("/math/nothing")
        failed(peer.next(), "NOT_FOUND")
        assert peer.sync() == []
    wait_until(lambda: "the secret reason" in server.conf.server.log(), 20, "the reason in the log")
    bob = who(server, "bob")
    bob.request("/who/am")
    failed(bob.next(), "FORBIDDEN")
    bob.request("/services/list", {"prefix": "/who/"})
    assert bob.output() == {"operations": []}
    bob.request("/services/list", {"prefix": "/math/"})
    assert bob.output() == {"operations": [{"name": "/math/add", "op_type": "query"}]}
    bob.request("/services/schema", {"name": "/math/add"})
    assert bob.output()["input_schema"]["required"] == ["a", "b"]
    # The name is taken, by the server.
    answer = bob.register("math", {"name": "/add"})
    error(answer, "INVALID_INPUT", "register", "call.error")
    listed = {one["name"] for one in server.conf.call("operation.list")}
    assert {"/math/add", "/who/am"} <= listed
    assert server.conf.call("operation.call", operation="/math/add", input=json.dumps({"a": 1, "b": 1})) == {"sum": 2}
    got = server.conf.call("operation.call", operation="/who/am", input="7")
    assert got == {"scopes": {}, "link": False, "input": 7}


def test_as_deep_as_a_frame(bus):
    """What a policy says stands two deep in a call's answer, one deep in an event."""
    server = script(bus, 1, """
local function deep(n)
	local value = { 1 }
	for _ = 2, n do value = { value } end
	return value
end
alknet.operation("/deep/answer", {}, deep)
alknet.operation("/deep/event", {}, function(n) return alknet.publish("deep", deep(n)) or false end)
return {}
""")
    peer = server.peer().subscribe("deep")
    assert len(str(peer.get("/deep/answer", 30))) == 61
    failed(peer.call("/deep/answer", 31), "INTERNAL")
    assert peer.get("/deep/event", 32) is False
    peer.request("/deep/event", 31)
    assert sorted(peer.next()["type"] for _ in range(2)) == ["call.responded", "deep"]
    assert peer.sync() == []


@WORKERS
def test_ends(bus, workers):
    server = script(bus, workers, SCRIPT, bus={"call_timeout": 3})
    peer = who(server, "alice")
    peer.request("/slow/sleep", {"seconds": 4})
    failed(peer.next(), "TIMEOUT")
    peer.request("/slow/sleep", {"seconds": 4})
    peer.send("call.aborted", "1")
    assert peer.next()["type"] == "call.aborted"
    for _ in range(5):
        other = who(server, "alice")
        other.request("/slow/sleep", {"seconds": 4})
        other.wire.close()
    assert peer.sync() == []


@pytest.mark.parametrize("line, why", [
    ('alknet.operation("/bus/x", {}, function() end)', "is the program's"),
    ('alknet.operation("nothing", {}, function() end)', "a path like"),
    ('alknet.operation("/one", {}, function() end)', "a path like"),
    ('alknet.operation("/a/b", {}, 7)', "function expected"),
    ('alknet.operation("/a/b", { colour = 1 }, function() end)', "unknown key"),
    ('alknet.operation("/a/b", { op_type = "subscription" }, function() end)', "op_type"),
    ('alknet.operation("/a/b", { input_schema = { pattern = "x" } }, function() end)', "pattern"),
    ('alknet.operation("/a/b", { access_control = { required_scopes = "x" } }, function() end)', "required_scopes"),
    ('alknet.operation("/a/b", {}, function() end) alknet.operation("/a/b", {}, function() end)', "already"),
    ('alknet.subscribe("a..b")', "token"),
    ('alknet.subscribe("a.b")', "on_event"),
])
def test_a_mistake_is_told_when_the_script_is_loaded(bus, tmp_path, line, why):
    server = bus(1)
    path = tmp_path / "new.lua"
    path.write_text(line + "\nreturn {}\n")
    with pytest.raises(procs.AdminError) as told:
        server.conf.reload(policy=str(path))
    assert why in str(told.value)


EVENTS = """
alknet.subscribe("orders.*")
alknet.subscribe("jobs.>", "workers")
return {
	on_event = function(event)
		if event.type == "jobs.publish" then
			assert(alknet.publish("answers.job", { id = event.id, size = event.size > 10 }))
		elseif event.type == "orders.new" then
			assert(alknet.publish("answers.order:" .. event.id, event.payload))
			assert(alknet.publish("orders.echo", {})) -- not handed to who published it
		elseif event.type == "orders.bad" then
			error("cannot do that")
		end
	end,
}
"""


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_events(bus, workers):
    server = script(bus, workers, EVENTS)
    listener, peer = server.peer(), server.peer()
    listener.subscribe("answers.>")
    peer.send("orders.new", "7", {"n": [1, {"x": "y"}]})
    got = [listener.next() for _ in range(max(workers, 1))]
    assert all(one == {"type": "answers.order", "id": "7", "payload": {"n": [1, {"x": "y"}]}} for one in got)
    peer.send("orders.bad", "", {})
    for n in range(20):
        peer.send("jobs.publish", str(n), {})
    assert sorted(int(listener.next()["payload"]["id"]) for _ in range(20)) == list(range(20))
    assert listener.sync() == []


COUNT = """
local n, held = 0, true
alknet.subscribe("burst")
alknet.subscribe("go")
alknet.operation("/the/count", {}, function() return n end)
return {
	on_event = function(event)
		if event.type == "go" then held = false return end
		n = n + 1
		while event.payload.wait and held do alknet.sleep(0.05) end
	end,
}
"""


def test_a_burst_of_events(bus):
    """It comes at once, which a script that is fast enough must not lose any of."""
    server = script(bus, 1, COUNT)
    peer = server.peer()
    for size, count in ((1, 640), (1, 4000), (30000, 100)):
        before = peer.get("/the/count")
        peer.raw(b"".join(frame({"type": "burst", "id": "", "payload": {"text": "x" * size}}) for _ in range(count)))
        wait_until(lambda: peer.get("/the/count") == before + count, 20, "all of them")
    assert "did not get events" not in server.conf.server.log()


def test_more_events_than_may_wait(bus):
    server = script(bus, 1, COUNT)
    peer = server.peer()
    for _ in range(200):
        peer.send("burst", "", {"wait": True, "text": "x" * 30000})
    server.conf.server.wait_log("did not get events")
    peer.send("go")
    wait_until(lambda: 130 <= peer.get("/the/count") < 200, 20, "those that there was room for")


def test_they_come_and_go_with_the_policy(bus):
    server = script(bus, 2, 'alknet.operation("/v/one", {}, function() return 1 end)\nreturn {}\n')
    old = server.peer()
    old.request("/v/one")
    assert old.output() == 1
    path = server.conf.policy
    path.write_text('alknet.operation("/v/one", {}, function() return 2 end)\n'
                    'alknet.operation("/v/two", {}, function() return 2 end)\nreturn {}\n')
    server.conf.call("policy.reload")
    new = server.peer()
    new.request("/v/one")
    assert new.output() == 2
    new.request("/v/two")
    assert new.output() == 2
    # Who came before is served by what it came to.
    old.request("/v/one")
    assert old.output() == 1
    assert server.conf.call("operation.call", operation="/v/one") == 2
    path.write_text("return {}\n")
    server.conf.call("policy.reload")
    last = server.peer()
    last.request("/v/one")
    failed(last.next(), "NOT_FOUND")
    old.wire.close()
    new.wire.close()
    wait_until(lambda: not [one for one in server.conf.call("operation.list") if one["name"].startswith("/v/")], 20, "operations to have gone")


@WORKERS
def test_access_by_patterns_of_names(bus, workers):
    text = """
alknet.operation("/a/fs/read", {}, function() return "a" end)
alknet.operation("/a/b/fs/read", {}, function() return "b" end)
alknet.operation("/db/one/get", {}, function() return "c" end)
return {
	on_auth = function(request)
		local scopes = { alice = { "fs" }, bob = {}, carol = { "spoke" } }
		return "allow", { id = request.user, scopes = scopes[request.user],
			resources = request.user == "bob" and { "/db/*/get", "nonsense" } or {} }
	end,
	on_call = function(session, operation)
		if alknet.path("/*/b/**", operation) and session.identity.id ~= "alice" then
			return "deny", "only alice"
		end
		return "allow"
	end,
}
"""
    server = script(bus, workers, text, bus={"access": ["/*/fs/*=fs,root", "/db/**=@", "/hub/services/register=spoke"]})
    alice, bob, carol = (who(server, user) for user in ("alice", "bob", "carol"))
    assert alice.get("/a/fs/read") == "a"
    failed(bob.call("/a/fs/read"), "FORBIDDEN")
    assert alice.get("/a/b/fs/read") == "b"
    assert failed(bob.call("/a/b/fs/read"), "FORBIDDEN") == "only alice"
    assert bob.get("/db/one/get") == "c"
    failed(alice.call("/db/one/get"), "FORBIDDEN")
    error(alice.register("dev", "/x"), "FORBIDDEN", "register", "call.error")
    assert carol.register("dev", "/fs/x", "/y")["type"] == "call.responded"
    failed(bob.call("/dev/fs/x"), "FORBIDDEN")
    bob.request("/dev/y")
    assert carol.next()["payload"]["operationId"] == "/y"
    with pytest.raises(procs.AdminError) as told:
        server.conf.reload(bus={"access": ["fs=x"]})
    assert "access" in str(told.value)


@WORKERS
def test_the_example_knows_who_is_there(bus, workers):
    """scripts/examples/presence.lua: what a program of one worker says, a caller of another is told."""
    server = script(bus, workers, (procs.ROOT / "scripts/examples/presence.lua").read_text())
    speaker, caller = server.peer(), server.peer()
    speaker.send("presence.dev1", "", {"state": "busy"})

    def there():
        return caller.get("/presence/list", {"within": 60}).get("present")

    wait_until(there, 20, "the event to be heard")
    assert [(one["name"], one["state"]) for one in there()] == [("dev1", "busy")]
    failed(caller.call("/presence/list", {"within": 0}), "INVALID_INPUT")
