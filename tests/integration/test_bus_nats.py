# SPDX-License-Identifier: MIT OR Apache-2.0
"""Two servers on one NATS are one bus: with the real nats-server, which is killed and started again in the middle."""

import contextlib
import os
import signal
import subprocess

import pytest

from harness import natsserver, procs, sshwire
from harness.buslocal import Local
from harness.buswire import error, failed, frame
from harness.configured import Configured
from harness.waiting import scaled, wait_until
from test_bus import Bus
from test_bus_connect import AGAIN

POLICY = """
alknet.operation("/NAME/hello", { input_schema = { type = "object", required = { "who" } },
	access_control = { required_scopes = { "hello" } } }, function(input, session)
	return { from = "NAME", who = input.who, id = session.identity.id, scopes = session.identity.scopes }
end)
alknet.operation("/any/where", {}, function() return "NAME" end)
return {
	on_auth = function(request)
		return "allow", { id = "someone", scopes = { "hello" } }
	end,
}
"""

pytestmark = pytest.mark.skipif(
    natsserver.program() is None or not os.path.exists(os.path.join(procs.plugin_dir(), "alknet-nats")),
    reason="no nats-server, or built without libnats")


@pytest.fixture
def mesh(keys, tmp_path, running_programs):
    made, servers = [], []

    def start(names="ab", workers=1, jetstream=False, policy=POLICY, env=None, config="", **bus):
        nats = natsserver.NatsServer(tmp_path, jetstream, config)
        made.append(nats)
        for name in names:
            directory = tmp_path / name
            directory.mkdir()
            conf = Configured(keys, directory, running_programs, workers=workers, policy=policy.replace("NAME", name), env=env,
                              bus={"backend": nats.url, **bus})
            servers.append(conf)
            wait_until(lambda: conf.server.metric("alknet_bus_backend_connected") == 1, 20, "NATS")
        return (nats, *map(Bus, servers[-len(names):]))

    yield start
    for one in servers:
        one.close()
    for one in made:
        one.close()


def program_of(bus):
    """The one that speaks with NATS."""
    (pid,) = [pid for pid in procs.tree(bus.conf.server.pid) if open(f"/proc/{pid}/comm").read().strip() == "alknet-nats"]
    return pid


def settled(nats, *servers):
    """Until everything that was said before has reached NATS and come back: a program of its own asks each server."""
    plain = natsserver.Plain(nats.port)
    plain.subscribe("settled.*")
    for n, _ in enumerate(servers):
        answer = None
        while answer is None:  # it is there, and does not listen yet
            plain.publish(f"alknet.bus.c.{'ab'[n]}.hello", {"who": 1}, f"settled.{n}")
            answer = plain.next()[2]
    plain.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_events_reach_the_other_server_once(mesh, workers):
    nats, a, b = mesh(workers=workers)
    here, there, sender = a.peer(), b.peer(), a.peer()
    for peer in (here, there):
        # Three patterns that match the same, two of which overlap.
        peer.subscribe("file.*").subscribe("*.new", "second").subscribe("file.new", "third").subscribe("job.>").subscribe("id.x:7")
    settled(nats, a, b)
    for n in range(200):
        sender.send("file.new", str(n % 3), {"n": n})
    sender.send("job.a.b", "", {"text": "\u00e4\u20ac", "null": None, "list": [None, 1.5]})
    sender.send("id.x", "7")
    sender.send("id.x", "8")
    sender.send("job.end")
    for peer in (here, there):
        assert [peer.next()["payload"]["n"] for _ in range(200)] == list(range(200))
        assert peer.next()["payload"] == {"text": "\u00e4\u20ac", "null": None, "list": [None, 1.5]}
        assert peer.next()["id"] == "7"
        assert peer.next()["type"] == "job.end"
    assert sender.sync() == [] and here.sync() == []


NAMES = ["plain", "a b", "x*y", "a>b", "100%", "%20", "$JS.API", "\u00e4.\u20ac", "tab\u00a0x", "a.b-c_d/e"]


def test_names_go_there_and_back(mesh):
    nats, a, b = mesh()
    there, sender = b.peer(), a.peer()
    for name in NAMES:
        there.subscribe(name)
    settled(nats, a, b)
    for name in NAMES:
        sender.send(name, "an id: with . * >", {"name": name})
    for name in NAMES:
        assert there.next() == {"type": name, "id": "an id: with . * >", "payload": {"name": name}}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_group_is_one_on_both_servers(mesh, workers):
    nats, a, b = mesh(workers=workers)
    members = [server.peer().subscribe("job.*", group="g h") for server in (a, a, b, b)]
    plain, sender = b.peer().subscribe("job.*"), a.peer()
    other = natsserver.Plain(nats.port)
    settled(nats, a, b)
    for n in range(200):
        sender.send("job.x", "", {"n": n})
    assert [plain.next()["payload"]["n"] for _ in range(200)] == list(range(200))
    sender.sync()
    settled(nats, a, b)
    got = []
    wait_until(lambda: got.extend(sum((member.sync() for member in members), [])) or len(got) >= 200, 20, "all of them")
    assert sorted(one["payload"]["n"] for one in got) == list(range(200))
    # A program of its own in the same queue takes its share of the rest.
    other.subscribe("alknet.bus.e.job.*", "g.g%20h")
    for n in range(100):
        sender.send("job.x", "", {"n": n})
    [plain.next() for _ in range(100)]
    settled(nats, a, b)
    mine = []
    other.write(b"PING\r\n")
    while not (line := other.line()).startswith(b"PONG"):
        size = int(line.split()[-1])
        mine.append(other.file.read(size + 2))
    theirs = []
    wait_until(lambda: theirs.extend(sum((member.sync() for member in members), [])) or len(theirs) + len(mine) >= 100, 20, "all")
    assert len(theirs) + len(mine) == 100 and mine
    other.close()


def test_groups_of_any_name(mesh):
    """Two names are two groups; a program of its own finds the queue under the name that a subject would have."""
    nats, a, b = mesh()
    names = ["a/b", "a|b", "a.b", "a%2Fb", "/", "//a/", "*"]
    members = [b.peer().subscribe("job", group=name) for name in names]
    sender, plain = a.peer(), natsserver.Plain(nats.port).subscribe("alknet.bus.e.job", "g.a/b")
    settled(nats, a, b)
    for n in range(100):
        sender.send("job", "", {"n": n})
    for member in members[1:]:
        assert [member.next()["payload"]["n"] for _ in range(100)] == list(range(100))
    settled(nats, a, b)
    assert 0 < len(members[0].sync()) < 100
    plain.close()


def test_a_program_of_its_own_on_nats(mesh):
    nats, a, _ = mesh()
    peer, plain = a.peer().subscribe("x.*"), natsserver.Plain(nats.port)
    plain.subscribe("alknet.bus.e.y.>")
    settled(nats, a)
    peer.send("y.z", "5", {"n": 1})
    subject, _, value = plain.next()
    assert subject == "alknet.bus.e.y.z" and value == {"type": "y.z", "id": "5", "payload": {"n": 1}}
    for bad in ({"type": "x.other", "id": "", "payload": 1}, {"type": "x.y"}, [1], "x", {"type": "x.y", "id": "", "payload": 1, "more": 2}):
        plain.publish("alknet.bus.e.x.y", bad)
    plain.publish("alknet.bus.e.x.y", {"type": "x.y", "id": "", "payload": "good"})
    assert peer.next() == {"type": "x.y", "id": "", "payload": "good"}
    wait_until(lambda: a.metric("backend_lost_total") == 5, 20, "the counter")
    # It has no scope, and may call what needs none.
    plain.subscribe("answers")
    plain.publish("alknet.bus.c.any.where", {}, "answers")
    assert plain.next()[2] in ("a", "b")
    plain.publish("alknet.bus.c.a.hello", {"who": 1}, "answers")
    assert plain.next()[2]["code"] == "FORBIDDEN"
    # And serve: what it answers is the output.
    plain.subscribe("alknet.bus.c.prog.add", "alknet")
    caller = a.peer()
    for answer in (7, None, {"output": 1}):
        caller.request("/prog/add", {"n": 1})
        _, reply, asked = plain.next()
        assert asked == {"operationId": "/prog/add", "input": {"n": 1}}
        plain.publish(reply, answer)
        assert caller.output() == answer
    caller.request("/prog/add")
    plain.write(f"PUB {plain.next()[1]} 2\r\n{{x\r\n".encode())
    error(caller.next(), "INTERNAL", "1", "call.error")
    plain.write(b"PUB alknet.bus.c.any.where answers 2\r\n{x\r\n")
    assert plain.next()[2]["code"] == "INVALID_INPUT"
    plain.close()


def test_access_holds_for_programs_on_nats(mesh):
    """Nobody was asked where they are; and they have no scope, whatever they say."""
    nats, a, b = mesh(access=["/any/**=ops", "/dev/closed=hello", "/services/list=ops"])
    dev, caller, plain = a.peer(), b.peer(), natsserver.Plain(nats.port).subscribe("answers")
    assert dev.register("dev", "/open", "/closed")["type"] == "call.responded"
    settled(nats, a, b)

    def refused(subject, code, head=""):
        body, head = b'{"who": 1}', f"NATS/1.0\r\n{head}\r\n".encode()
        plain.write(f"HPUB alknet.bus.{subject} answers {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n")
        assert plain.next()[2]["code"] == code

    refused("c.any.where", "FORBIDDEN")
    refused("c.dev.closed", "FORBIDDEN")
    refused("d.dev.closed", "NOT_FOUND")
    refused("d.any.where", "NOT_FOUND")
    refused("c.a.hello", "FORBIDDEN", 'Alknet-Identity: {"id":"x","scopes":["hello"]}\r\n')
    plain.publish("alknet.bus.c.dev.open", 1, "answers")
    asked = dev.next()
    assert asked["payload"] == {"operationId": "/open", "input": 1}
    dev.respond(asked["id"], 2)
    assert plain.next()[2] == 2
    # Of another server's callers it was asked there.
    caller.request("/dev/closed")
    dev.respond(dev.next()["id"], 3)
    assert caller.output() == 3
    plain.close()


def test_t63_what_no_peer_may_say_does_not_come_from_nats(mesh):
    """Words of the bus, another one's topic, frames that are too long; outputs that would be too deep."""
    nats, a = mesh("a", max_frame=4096)
    peer, plain = a.peer().subscribe(">"), natsserver.Plain(nats.port)
    settled(nats, a)
    bad = [("__ok", "__ok"), ("error", "error"), ("call.responded", "call.responded"), ("alknet-x", "alknet-x"), ("x", "x:y"), ("x", "x")]
    for subject, type_ in bad:
        plain.publish(f"alknet.bus.e.{subject}", {"type": type_, "id": "1", "payload": "z" * (4096 if type_ == "x" else 1)})
    plain.publish("alknet.bus.e.x", {"type": "x", "id": "1", "payload": "good"})
    assert peer.next() == {"type": "x", "id": "1", "payload": "good"}
    assert a.metric("backend_lost_total") == len(bad)
    plain.subscribe("alknet.bus.c.prog.deep", "alknet")
    for depth, answer in ((30, "call.responded"), (31, "call.error"), (100, "call.error")):
        peer.request("/prog/deep")
        reply = plain.next()[1]
        plain.write(f"PUB {reply} {2 * depth}\r\n{'[' * depth}{']' * depth}\r\n".encode())
        assert peer.next()["type"] == answer
    assert peer.sync() == []
    plain.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_calls_to_the_other_server(mesh, workers):
    nats, a, b = mesh(workers=workers)
    caller, dev = a.peer(), b.peer()
    settled(nats, a, b)
    answer = caller.call("/b/hello", {"who": "me"})
    assert answer["payload"]["output"] == {"from": "b", "who": "me", "id": "someone", "scopes": ["hello"]}, answer
    assert caller.get("/any/where") == "a"  # the nearest
    error(caller.call("/b/hello", {}), "INVALID_INPUT", "1", "call.error")
    error(caller.call("/c/hello", {}), "NOT_FOUND", "1", "call.error")
    assert dev.register("dev.1", "/fs/read", {"name": "/fs/watch", "op_type": "subscription"})["type"] == "call.responded"
    settled(nats, a, b)
    caller.request("/dev.1/fs/read", {"path": "x"})
    asked = dev.next()
    assert asked["payload"] == {"operationId": "/fs/read", "input": {"path": "x"}}
    dev.respond(asked["id"], {"text": 1})
    assert caller.next() == {"type": "call.responded", "id": "1", "payload": {"output": {"text": 1}}}
    caller.request("/dev.1/fs/watch")
    asked = dev.next()
    for n in range(3):
        dev.respond(asked["id"], n)
    dev.send("call.completed", asked["id"])
    assert [caller.output() for _ in range(3)] == [0, 1, 2]
    assert caller.next()["type"] == "call.completed"
    # Ends: the caller's, the spoke's, a deadline.
    caller.request("/dev.1/fs/watch")
    asked = dev.next()
    caller.send("call.aborted", "1")
    assert caller.next()["type"] == "call.aborted"
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    other = a.peer()
    other.request("/dev.1/fs/watch")
    asked = dev.next()
    other.wire.close()
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    import time
    caller.request("/dev.1/fs/read", {}, deadline=int(time.time() * 1000) + 15000)
    asked = dev.next()
    error(caller.next(), "TIMEOUT", "1", "call.error")
    assert dev.next()["type"] == "call.aborted"
    dev.respond(asked["id"], 1)
    caller.request("/dev.1/fs/read")
    dev.next()
    dev.wire.close()
    error(caller.next(), "UNAVAILABLE", "1", "call.error")
    assert caller.sync() == []


WATCH = {"name": "/watch", "op_type": "subscription", "input_schema": {"type": "object"}}
KIND = {"input_schema": {}, "output_schema": {}, "access_control": {}}
HIDING = POLICY.replace("return {\n\ton_auth", """return {
	on_call = function(session, operation)
		return operation == "/dev/unseen" and "deny" or "allow"
	end,
	on_auth""")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_another_servers_operation_is(mesh, workers):
    nats, a, b = mesh(workers=workers, policy=HIDING, access=["/hidden/**=ops"])
    caller, dev, hidden, plain = a.peer(), b.peer(), b.peer(), natsserver.Plain(nats.port)
    access = {"required_scopes": ["root"]}
    assert dev.register("dev", "/read", WATCH, "/unseen", {"name": "/root", "access_control": access})["type"] == "call.responded"
    assert hidden.register("hidden", "/x")["type"] == "call.responded"
    settled(nats, a, b)
    plain.subscribe("alknet.bus.d.>")
    assert caller.get("/services/schema", {"name": "/dev/watch"}) == {**KIND, **WATCH, "name": "/dev/watch"}
    assert plain.next()[0] == "alknet.bus.d.dev.watch"
    hello = caller.get("/services/schema", {"name": "/b/hello"})
    assert hello["op_type"] == "query" and hello["input_schema"]["required"] == ["who"]
    assert hello["access_control"]["required_scopes"] == ["hello"]
    assert plain.next()[0] == "alknet.bus.d.b.hello"
    # The nearest is not asked of others. Who may not call it, here or there, does not learn of it.
    assert caller.get("/services/schema", {"name": "/any/where"})["name"] == "/any/where"
    for name in ("/hidden/x", "/dev/unseen", "x", "", "/", "//", "/dev//watch", "/dev/watch/", "/x" * 200):
        failed(caller.call("/services/schema", {"name": name}), "NOT_FOUND")
    plain.publish("alknet.bus.d.end", 1)
    assert plain.next()[0] == "alknet.bus.d.end"
    plain.write(b"UNSUB 1\r\n")
    plain.sync()
    for name in ("/dev/root", "/dev/none", "/c/hello", "/dev/*", "/dev/>"):
        failed(caller.call("/services/schema", {"name": name}), "NOT_FOUND")
    # A program of its own has no scope.
    plain.subscribe("answers")
    plain.publish("alknet.bus.d.dev.watch", None, "answers")
    assert plain.next()[2]["op_type"] == "subscription"
    plain.publish("alknet.bus.d.b.hello", None, "answers")
    assert plain.next()[2]["code"] == "NOT_FOUND"
    # A deadline that is past, and many at once.
    failed(caller.call("/services/schema", {"name": "/dev/read"}, deadline=1), "TIMEOUT")
    for n in range(50):
        caller.request("/services/schema", {"name": "/dev/read"}, str(n))
    assert sorted(int(caller.next()["id"]) for _ in range(50)) == list(range(50))
    dev.wire.close()
    wait_until(lambda: caller.call("/services/schema", {"name": "/dev/watch"})["type"] == "call.error", 20, "the spoke to be gone")
    assert caller.sync() == []
    plain.close()


def test_garbage_about_operations(mesh):
    nats, a = mesh("a")
    caller, plain = a.peer(), natsserver.Plain(nats.port).subscribe("alknet.bus.d.prog.x", "alknet")
    good = {**KIND, "name": "/prog/x", "op_type": "subscription"}
    scopes = [{"access_control": value} for value in (1, [], {"required_scopes": 1}, {"required_scopes_any": [1]})]

    def answered(say):
        """The server waits for five seconds, which we may stall for."""
        def in_time():
            caller.request("/services/schema", {"name": "/prog/x"})
            say(plain.next()[1])
            one = caller.next()
            return None if one["payload"].get("code") == "TIMEOUT" else one

        return wait_until(in_time, 20, "an answer that was in time")

    bad = [{"name": "/prog/y"}, {"name": None}, {"op_type": "many"}, {"op_type": 1}, {"input_schema": 1}, {"output_schema": "x"}, *scopes]
    answers = [{"output": {**good, **change}} for change in bad] + [{}, [], 1, {"output": None}, {"output": [1]}]
    for answer in answers:
        one = answered(lambda reply, answer=answer: plain.pretend(reply, "call.responded", answer))
        assert failed(one, "INTERNAL") == "the answer is no operation's schema"
    # What is no server's answer, words that are no answer, and what is no JSON.
    for answer in (good, {"output": good}, None):
        one = answered(lambda reply, answer=answer: plain.publish(reply, answer))
        assert failed(one, "INTERNAL") == "the answer is no operation's schema"
    for text in (b"{", b"\xff", b"[" * 100 + b"]" * 100):
        one = answered(lambda reply, text=text: plain.write(b"PUB %b %d\r\n%b\r\n" % (reply.encode(), len(text), text)))
        assert failed(one, "INTERNAL") == "the answer is not JSON"
    failed(answered(lambda reply: plain.pretend(reply, "call.completed", {})), "INTERNAL")
    # Many answers are one, what is said beside it is left out, and nothing else came of all that.
    def many(reply):
        plain.pretend(reply, "accepted-many", None)
        for _ in range(2):
            plain.pretend(reply, "call.responded", {"output": {**good, "more": 1}})

    assert answered(many)["payload"] == {"output": good}
    # One that never answers.
    caller.request("/services/schema", {"name": "/prog/x"})
    plain.next()
    failed(caller.next(), "TIMEOUT")
    assert caller.sync() == []
    plain.close()


def call(path, *argv):
    return subprocess.Popen([procs.alknet(), "call", "--bus", f"unix:{path}", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=procs.environment())


def ended(calling):
    out, err = calling.communicate(timeout=scaled(30))
    return calling.returncode, out, err


def test_the_client_knows_what_another_servers_operation_is(mesh, client, tmp_path):
    nats, a, b = mesh()
    path, dev = tmp_path / "bus.sock", b.peer()
    front = client(a.conf.server, "--bus", f"unix:{path}")
    assert dev.register("dev", "/read", WATCH)["type"] == "call.responded"
    settled(nats, a, b)
    calling = call(path, "/dev/watch")
    asked = dev.next()
    for n in range(3):
        dev.respond(asked["id"], n)
    dev.send("call.completed", asked["id"])
    assert ended(calling) == (0, "0\n1\n2\n", "")
    calling = call(path, "/dev/watch")
    asked = dev.next()
    dev.respond(asked["id"], 1)
    dev.send("call.error", asked["id"], {"code": "BROKEN", "message": "no more"})
    status, out, err = ended(calling)
    assert (status, out) == (1, "1\n") and "/dev/watch: BROKEN: no more" in err
    calling = call(path, "/dev/read")
    dev.respond(dev.next()["id"], "text")
    assert ended(calling) == (0, '"text"\n', "")
    status, out, err = ended(call(path, "/dev/none"))
    assert (status, out) == (1, "") and "NOT_FOUND" in err
    # A session that is lost ends what goes on, and not what has ended.
    local = Local(path)
    local.request("/dev/read", {}, "one")
    dev.respond(dev.next()["id"], 1)
    assert local.output() == 1
    local.request("/dev/watch", {}, "many")
    asked = dev.next()
    dev.respond(asked["id"], 2)
    assert local.output() == 2
    a.conf.call("session.kill", id=a.conf.server.sessions()[0]["id"])
    failed(local.next(), "UNAVAILABLE", "many")
    assert dev.next() == {"type": "call.aborted", "id": asked["id"], "payload": {}}
    front.wait_log(AGAIN, 60)
    assert local.sync() == []
    # Nobody knows what it is: then it is not called.
    nats.kill()
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    status, out, err = ended(call(path, "/dev/watch"))
    assert (status, out) == (1, "") and "/dev/watch: UNAVAILABLE: NATS is away" in err


def test_the_client_learns_it_late(mesh, client, tmp_path):
    """Answers that come before it is known whether there will be more."""
    nats, a = mesh("a")
    path = tmp_path / "bus.sock"
    front = client(a.conf.server, "--bus", f"unix:{path}")

    def ended_with_the_session(prog, times):
        plain, local, descriptions = natsserver.Plain(nats.port).subscribe(f"alknet.bus.*.{prog}.*", "alknet"), Local(path), {}
        for name, kind in (("many", "accepted-many"), ("one", "accepted"), ("none", "accepted")):
            local.request(f"/{prog}/{name}", {}, name)
            subject, descriptions[name], _ = plain.next()
            assert subject == f"alknet.bus.d.{prog}.{name}"
            subject, reply, _ = plain.next()
            assert subject == f"alknet.bus.c.{prog}.{name}"
            plain.pretend(reply, kind, None)
            plain.pretend(reply, "call.responded", {"output": name})
            assert local.output() == name
        for name, kind in (("many", "subscription"), ("one", "query")):
            plain.pretend(descriptions[name], "call.responded", {"output": {**KIND, "name": f"/{prog}/{name}", "op_type": kind}})
        plain.pretend(descriptions["none"], "call.error", {"code": "NOT_FOUND", "message": "none"})
        # The answers to that are the client's alone, and come before this one.
        plain.sync()
        local.request(f"/{prog}/last", {}, "last")
        assert plain.next()[0] == f"alknet.bus.d.{prog}.last"
        plain.publish(plain.next()[1], "end")
        assert local.output() == "end"
        a.conf.call("session.kill", id=a.conf.server.sessions()[0]["id"])
        came = [local.next()["id"]]
        front.wait_log(AGAIN, 60, times)
        came += [one["id"] for one in local.sync()]
        plain.close()
        return sorted(came)

    # What an operation is is waited for for five seconds, which we may stall for.
    came = [ended_with_the_session("prog", 1)]
    if came[0] != ["last", "many"]:
        came.append(ended_with_the_session("again", 2))
    assert came[-1] == ["last", "many"], came


def test_a_server_that_dies_ends_its_calls(mesh):
    nats, a, b = mesh()
    caller, dev, far = a.peer(), b.peer(), b.peer()
    dev.register("dev", {"name": "/watch", "op_type": "subscription"})
    spoke = a.peer()
    spoke.register("near", {"name": "/watch", "op_type": "subscription"})
    settled(nats, a, b)
    caller.request("/dev/watch")
    asked = dev.next()
    dev.respond(asked["id"], 1)
    assert caller.output() == 1
    far.request("/near/watch")
    near = spoke.next()
    spoke.respond(near["id"], 1)
    assert far.output() == 1
    b.conf.server.expected_status = None
    for pid in procs.tree(b.conf.server.pid):
        with contextlib.suppress(ProcessLookupError):  # it left when the first one was gone
            os.kill(pid, signal.SIGKILL)
    error(caller.next(), "UNAVAILABLE", "1", "call.error")
    assert spoke.next() == {"type": "call.aborted", "id": near["id"], "payload": {}}


@pytest.mark.parametrize("workers", [0, 2])
def test_one_that_was_away_for_a_moment_ends_its_calls(mesh, workers):
    """It is back before the other one misses it, and has forgotten all calls."""
    nats, a, b = mesh(workers=workers)
    caller, far, dev, near = a.peer(), b.peer(), b.peer(), a.peer()
    dev.register("dev", {"name": "/watch", "op_type": "subscription"})
    near.register("near", {"name": "/watch", "op_type": "subscription"})
    settled(nats, a, b)
    asked = []
    for one, spoke, name in ((caller, dev, "/dev/watch"), (far, near, "/near/watch")):
        one.request(name)
        asked.append(spoke.next()["id"])
        spoke.respond(asked[-1], 1)
        assert one.output() == 1
    os.kill(program_of(b), signal.SIGKILL)
    for one in (caller, far):
        failed(one.next(), "UNAVAILABLE")
    assert dev.next() == {"type": "call.aborted", "id": asked[0], "payload": {}}
    assert near.next() == {"type": "call.aborted", "id": asked[1], "payload": {}}
    # The calls of others than those two servers, and new ones, are not touched.
    wait_until(lambda: b.metric("backend_connected") == 1, 20, "it to be back")
    wait_until(lambda: caller.call("/b/hello", {"who": 1})["type"] == "call.responded", 20, "calls to go again")
    caller.request("/dev/watch")
    again = dev.next()["id"]
    settled(nats, a, b)
    dev.respond(again, 2)
    assert caller.output() == 2
    assert far.sync() == [] and near.sync() == []


def test_the_program_is_gone_for_good(mesh, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for name in os.listdir(procs.plugin_dir()):
        (plugins / name).symlink_to(os.path.join(procs.plugin_dir(), name))
    nats, a = mesh("a", env=procs.environment(ALKNET_PLUGIN_DIR=str(plugins)))
    caller, plain = a.peer(), natsserver.Plain(nats.port).subscribe("alknet.bus.c.prog.x", "alknet")
    caller.request("/prog/x")
    plain.next()
    (plugins / "alknet-nats").unlink()
    os.kill(program_of(a), signal.SIGKILL)
    failed(caller.next(), "UNAVAILABLE")
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    failed(caller.call("/prog/x"), "UNAVAILABLE")
    plain.close()


def test_a_call_that_comes_while_nats_is_hardly_back(mesh):
    """The program waits for a stream, and hears calls already: they are refused, not served to nobody."""
    nats, a = mesh("a", durable=["order.>"])  # which never comes: there is no JetStream
    nats.kill()
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    nats.start()
    plain, came = natsserver.Plain(nats.port).subscribe("answers"), []

    def answer():
        plain.publish("alknet.bus.c.any.where", {}, "answers")
        came.append(plain.next()[2])
        return came[-1]

    wait_until(answer, 20, "somebody to be there")  # None: nobody is
    assert came[-1]["code"] == "UNAVAILABLE"
    wait_until(lambda: answer() == "a", 20, "it to be served")
    plain.close()


def test_a_call_that_comes_as_its_operation_goes(mesh):
    """NATS has handed it over: whoever waits is told, at once."""
    nats, a = mesh("a")
    plain, operations, pid = natsserver.Plain(nats.port).subscribe("answers.*"), range(16), program_of(a)
    for _ in range(5):
        dev = a.peer()
        assert dev.register("dev", *(f"/{n}" for n in operations))["type"] == "call.responded"
        settled(nats, a)
        procs.freeze(pid)
        dev.wire.close()
        wait_until(lambda: a.metric("spokes") == 0, 20, "it to go")
        for n in operations:
            plain.publish(f"alknet.bus.c.dev.{n}", {}, f"answers.{n}")
        plain.sync()
        os.kill(pid, signal.SIGCONT)
        answers = [plain.next() for _ in operations]
        assert {subject for subject, _, _ in answers} == {f"answers.{n}" for n in operations}
        assert [value["code"] for _, _, value in answers] == ["UNAVAILABLE"] * len(operations)
        plain.publish("alknet.bus.c.dev.0", {}, "answers.gone")
        assert plain.next()[2] is None
    assert program_of(a) == pid
    plain.close()


def test_an_answer_of_no_known_type(mesh):
    nats, a = mesh("a")
    caller, plain = a.peer(), natsserver.Plain(nats.port).subscribe("alknet.bus.c.prog.x").subscribe("alknet.bus.x")
    for type_ in ("call.later", "call", "call.requested"):
        caller.request("/prog/x")
        reply = plain.next()[1]
        plain.pretend(reply, type_, {"output": 1})
        failed(caller.next(), "INTERNAL")
        assert plain.next()[2] == reply  # whoever serves it is told
    plain.close()


def test_messages_that_are_longer_than_the_program_takes(mesh):
    """Where NATS would. The program goes on, and a caller is told."""
    nats, a = mesh("a", config="max_payload: 32MB\n")
    peer, plain = a.peer().subscribe("x"), natsserver.Plain(nats.port).subscribe("answers").subscribe("alknet.bus.c.prog.x")
    settled(nats, a)
    pid, much = program_of(a), "x" * (9 << 20)
    # The last one is short, and long as jansson writes it.
    for input_ in (much.join('""'), "[" + "1e9," * (900 << 10) + "1]"):
        plain.write(f"PUB alknet.bus.c.any.where answers {len(input_)}\r\n{input_}\r\n".encode())
        assert plain.next()[2]["code"] == "INVALID_INPUT"
    peer.request("/prog/x")
    plain.publish(plain.next()[1], much)
    failed(peer.next(), "INTERNAL")
    plain.publish("alknet.bus.e.x", {"type": "x", "id": "", "payload": much})
    head, body = f"NATS/1.0\r\nAlknet-Type: {much}\r\n\r\n", '{"type":"x","id":"","payload":1}'
    plain.write(f"HPUB alknet.bus.e.x {len(head)} {len(head) + len(body)}\r\n{head}{body}\r\n".encode())
    plain.publish("alknet.bus.e.x", {"type": "x", "id": "", "payload": "good"})
    assert peer.next()["payload"] == "good"
    assert a.metric("backend_lost_total") == 2
    assert program_of(a) == pid and a.metric("backend_connects_total") == 1
    plain.close()


def test_calls_that_are_longer_than_nats_takes(mesh):
    nats, a, b = mesh(max_frame="2M")  # of NATS 1M
    caller, dev, plain, much = a.peer(), b.peer(), natsserver.Plain(nats.port).subscribe("answers"), "x" * (1 << 20)
    assert dev.register("dev", "/one", {"name": "/watch", "op_type": "subscription"})["type"] == "call.responded"
    settled(nats, a, b)
    failed(caller.call("/dev/one", {"much": much}), "INVALID_INPUT")
    for answer in (much, "x" * ((1 << 20) - 100)):
        caller.request("/dev/one")
        dev.respond(dev.next()["id"], answer)
        failed(caller.next(), "INTERNAL")
    caller.request("/dev/watch")
    asked = dev.next()["id"]
    for answer in (1, much):
        dev.respond(asked, answer)
    assert caller.output() == 1
    failed(caller.next(), "INTERNAL")
    assert dev.next() == {"type": "call.aborted", "id": asked, "payload": {}}
    plain.publish("alknet.bus.c.dev.one", 1, "answers")
    dev.respond(dev.next()["id"], much)
    assert plain.next()[2]["code"] == "INTERNAL"
    # What is a little shorter goes through.
    much = "x" * ((1 << 20) - 400)
    caller.request("/dev/one", much)
    asked = dev.next()
    assert asked["payload"]["input"] == much
    dev.respond(asked["id"], much)
    assert caller.output() == much
    plain.close()


def test_nats_dies_and_comes_back(mesh):
    nats, a, b = mesh(backend_buffer=20000)
    here, there, sender, caller = a.peer().subscribe("x.>"), b.peer().subscribe("x.>"), a.peer(), a.peer()
    member = b.peer().subscribe("x.>", group="g")
    settled(nats, a, b)
    sender.send("x.y", "", {"n": -1})
    for peer in (here, there, member):
        assert peer.next()["payload"]["n"] == -1
    dev = b.peer()
    assert dev.register("dev", "/slow")["type"] == "call.responded"
    settled(nats, a, b)
    caller.request("/dev/slow")
    assert dev.next()["type"] == "call.requested"
    nats.kill()
    error(caller.next(), "UNAVAILABLE", "1", "call.error")
    wait_until(lambda: a.metric("backend_connected") == 0 and b.metric("backend_connected") == 0, 20, "it to be noticed")
    error(caller.call("/b/hello", {"who": 1}), "UNAVAILABLE", "1", "call.error")
    assert caller.get("/a/hello", {"who": 1})["from"] == "a"
    # What fits waits; then the publisher is told. Whoever is here has it at once.
    pad, sent, told = "x" * 500, 0, []
    while not told:
        sender.send("x.y", str(sent), {"n": sent, "pad": pad})
        sent += 1
        told = sender.sync()
    # One is told of each, by its id.
    kept = int(told[0]["id"])
    while len(told) < sent - kept:
        told.append(sender.next())
    assert [error(one, "UNAVAILABLE", str(kept + n)) for n, one in enumerate(told)] == ["NATS is away and the buffer is full"] * len(told)
    assert 10 < kept < 60
    assert [here.next()["payload"]["n"] for _ in range(sent)] == list(range(sent))
    nats.start()
    assert [there.next()["payload"]["n"] for _ in range(kept)] == list(range(kept))
    assert [member.next()["payload"]["n"] for _ in range(kept)] == list(range(kept))
    wait_until(lambda: a.metric("backend_connected") == 1 and b.metric("backend_connected") == 1, 20, "it to be back")
    wait_until(lambda: caller.call("/b/hello", {"who": 1})["type"] == "call.responded", 20, "calls to go again")
    assert caller.get("/b/hello", {"who": 1})["from"] == "b"
    sender.send("x.y", "", {"n": 1000})
    for peer in (here, there, member):
        assert peer.next()["payload"]["n"] == 1000
    assert sender.sync() == []


def test_what_is_promised_and_cannot_be_kept_is_told(mesh):
    nats, a = mesh("a", backend_buffer=20000)
    sender, other = a.peer(), a.peer()
    nats.kill()
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    # Both or neither: a retained value goes twice.
    sender.send("x.y", "value", {"retain": True, "pad": "x" * 11000})
    error(sender.next(), "UNAVAILABLE", "value")
    assert a.metric("backend_waiting_bytes") == 0
    for n in range(3):
        sender.send("x.y", str(n))
    assert sender.sync() == []
    # To whoever it was: the administrator's is nobody's else.
    with pytest.raises(procs.AdminError) as told:
        for _ in range(200):
            a.conf.call("bus.publish", topic="x.y", payload='"' + "x" * 250 + '"')
    assert "UNAVAILABLE" in str(told.value)
    assert a.metric("backend_refused_total") == 2
    assert sender.sync() == [] and other.sync() == []
    # What waits has nowhere to go.
    a.conf.reload(bus={"backend": nats.url, "backend_buffer": 30000})
    assert [error(sender.next(), "UNAVAILABLE", str(n)) for n in range(3)] == ["NATS is not used any more"] * 3
    assert other.sync() == []


def test_the_program_dies_and_is_started_again(mesh):
    nats, a, b = mesh()
    there, sender = b.peer().subscribe("x"), a.peer()
    settled(nats, a, b)
    os.kill(program_of(a), signal.SIGKILL)
    sender.send("x", "", 1)
    wait_until(lambda: a.metric("backend_connects_total") >= 2, 20, "another one")
    sender.send("x", "", 2)
    last = there.next()["payload"]
    assert last == 2 or (last == 1 and there.next()["payload"] == 2)


def test_retained_values_are_everybodys(mesh):
    nats, a, b = mesh()
    sender = a.peer()
    sender.send("state.one", "", {"retain": True, "n": 1})
    sender.send("state.two", "", {"retain": True, "n": 2})
    sender.send("state.three", "", {"retain": True, "n": 3})
    sender.send("state.one", "", {"retain": "forget"})
    sender.sync()
    wait_until(lambda: {one["topic"] for one in b.conf.call("bus.topics")["retained"]} == {"state.two", "state.three"}, 20, "them")
    late = b.peer()
    late.send("__subscribe", "r", {"topic": "state.*", "replay": "last"})
    assert late.next()["type"] == "__ok"
    assert [late.next()["payload"]["n"] for _ in range(2)] == [2, 3]


def test_who_is_refused_and_leaves_ends_nobody_elses_subscription(mesh):
    nats, a, b = mesh()
    victim, leaver, sender = a.peer().subscribe("x"), a.peer(), b.peer()
    # There is no history, and nobody is left to hear so: all in one write.
    asked = frame({"type": "__subscribe", "id": "r", "payload": {"topic": "x", "replay": "all"}})
    to = sshwire.u32(leaver.channel)
    packets = [bytes([sshwire.DATA]) + to + sshwire.string(asked), bytes([sshwire.EOF]) + to, bytes([sshwire.CLOSE]) + to]
    leaver.wire.raw(b"".join(map(leaver.wire.pack, packets)))
    leaver.wait_close()
    a.peer().subscribe("behind it")
    settled(nats, a, b)
    sender.send("x", "", "still there")
    assert victim.next()["payload"] == "still there"


def test_bad_options(mesh):
    nats, a = mesh("a")
    for options, why in [({"backend": "http://x"}, "nats://"), ({"backend": nats.url, "backend_prefix": "a..b"}, "backend_prefix"),
                         ({"backend": nats.url, "durable": ["a..b"]}, "durable"), ({"durable": ["a"]}, "durable")]:
        with pytest.raises(procs.AdminError) as told:
            a.conf.reload(bus=options)
        assert why in str(told.value)
    # Without it, and back again, while the server runs.
    a.conf.reload(bus={})
    peer = a.peer()
    error(peer.call("/b/hello"), "NOT_FOUND", "1", "call.error")
    a.conf.reload(bus={"backend": nats.url})
    wait_until(lambda: a.conf.server.metric("alknet_bus_backend_connected") == 1, 20, "NATS")
