# SPDX-License-Identifier: MIT OR Apache-2.0
"""`alknet connect --bus`, which outlives sessions, and the small commands at such a socket."""

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import time

import pytest

from harness import procs
from harness.buslocal import Local
from harness.buswire import either, frame
from harness.configured import Configured
from harness.net import free_port
from harness.waiting import Settled, scaled, wait_until

AGAIN = r"alknet: connected to 127\.0\.0\.1:\d+ again after "


class Front:
    """A server, and a client that offers its bus."""

    def __init__(self, server, client, path, **options):
        self.make, self.path, self.options = server, path, {"listen": f"127.0.0.1:{free_port()}", **options}
        self.server = server(**self.options)
        self.client = client(self.server, "--bus", f"unix:{path}")
        self.sessions = 0

    def local(self):
        return Local(self.path)

    def lose(self):
        """End the session; the client comes back by itself."""
        self.sessions += 1
        self.server.call("session.kill", id=self.server.sessions()[0]["id"])
        self.client.wait_log(AGAIN, 60, count=self.sessions)

    def stop(self):
        self.server.stop()

    def start(self):
        self.sessions += 1
        self.server = self.make(**self.options)

    def back(self):
        self.client.wait_log(AGAIN, 60, count=self.sessions)


@pytest.fixture
def front(server, client, tmp_path):
    return lambda **options: Front(server, client, tmp_path / "bus.sock", **options)


def test_the_remote_bus_as_a_local_socket(front):
    bus = front()
    one, two = bus.local().subscribe("a.>"), bus.local()
    for n in range(2000):
        two.send("a.b", str(n), {"n": n, "text": "x" * (n % 300)})
    assert [one.next()["payload"]["n"] for _ in range(2000)] == list(range(2000))
    big = {"text": "y" * 900_000}
    two.send("a.big", "", big)
    assert one.next()["payload"] == big
    assert two.sync() == []
    assert os.stat(bus.path).st_mode & 0o777 == 0o600
    # A frame that comes byte by byte, and one that is none: that connection alone ends.
    for byte in frame({"type": "a.c", "id": "", "payload": 1}):
        two.raw(bytes([byte]))
    assert one.next()["type"] == "a.c"
    two.raw(frame(b"{nonsense"))
    either(two.next(), "INVALID_FRAME")
    two.wait_close()
    three = bus.local()
    three.raw(b"\xff\xff\xff\xff")
    either(three.next(), "INVALID_FRAME")
    three.wait_close()
    bus.local().send("a.d")
    assert one.next()["type"] == "a.d"
    bus.client.stop()
    assert not bus.path.exists()


def test_subscriptions_are_made_again(front):
    bus = front()
    one, two = bus.local().subscribe("a", "A").subscribe("b.*", "B").subscribe("c", "C"), bus.local()
    one.send("__unsubscribe", "C")
    assert one.next()["type"] == "__ok"
    for times in range(2):
        bus.lose()
        wait_until(lambda: bus.server.metric("alknet_bus_subscriptions") == 2, 20, "the subscriptions")
        two.send("a", str(times))
        two.send("c")
        two.send("b.x", str(times))
        assert [(one.next()["type"], times), (one.next()["type"], times)] == [("a", times), ("b.x", times)]
    assert one.sync() == []


def test_registrations_are_made_again_and_calls_end_once(front):
    bus = front()
    spoke, caller = bus.local(), bus.local()
    operations = ["/get", {"name": "/watch", "op_type": "subscription"}]
    assert spoke.register("dev1", *operations)["type"] == "call.responded"
    assert spoke.get("/services/list", {"prefix": "/dev1/"})["operations"] != []
    # Answered and over: nothing is to come. One that goes on, and one that was not answered.
    caller.request("/dev1/get", 1, "done")
    first = spoke.next()
    spoke.respond(first["id"], "one")
    assert caller.output() == "one"
    caller.request("/dev1/watch", 2, "many")
    second = spoke.next()
    spoke.respond(second["id"], "two")
    assert caller.output() == "two"
    caller.request("/dev1/get", 3, "open")
    third = spoke.next()
    bus.lose()
    ended = sorted((caller.next() for _ in range(2)), key=lambda one: one["id"])
    for one, id_ in zip(ended, ("many", "open")):
        either(one, "UNAVAILABLE", id_)
    told = sorted((spoke.next() for _ in range(2)), key=lambda one: one["id"])
    assert [one["type"] for one in told] == ["call.aborted"] * 2
    assert sorted(one["id"] for one in told) == sorted([second["id"], third["id"]])
    # An answer to what has ended is nobody's, although the numbers begin again.
    wait_until(lambda: "/dev1/get" in str(caller.call("/services/list", {"prefix": "/dev1/"}, "list")), 30, "the spoke")
    spoke.respond(third["id"], "late")
    caller.request("/dev1/get", 4, "again")
    again = spoke.next()
    spoke.respond(again["id"], "fresh")
    assert caller.next() == {"type": "call.responded", "id": "again", "payload": {"output": "fresh"}}
    assert caller.sync() == [] and spoke.sync() == []


def test_what_is_sent_during_an_outage(front):
    bus = front()
    one, two = bus.local().subscribe("a"), bus.local()
    two.sync()
    bus.stop()
    bus.client.wait_log("alknet: the session ended: ")
    # Nobody comes back in time: an error each.
    two.send("a", "lost", {"n": 0})
    two.request("/services/list", {}, "call")
    two.send("__subscribe", "sub", {"topic": "b"})
    either(two.next(), "UNAVAILABLE", "lost")
    either(two.next(), "UNAVAILABLE", "call")
    either(two.next(), "UNAVAILABLE", "sub")
    # This is still waiting when the server is there again; so is a new connection.
    bus.start()
    two.send("a", "kept", {"n": 1})
    late = bus.local()
    late.send("a", "late", {"n": 2})
    bus.back()
    assert sorted(one.next()["id"] for _ in range(2)) == ["kept", "late"]
    assert two.sync() == [] and late.sync() == []


def test_nothing_waits_longer_because_more_follows(front):
    """Each frame has its own time, also from a program that never pauses."""
    bus = front()
    one = bus.local()
    one.sync()
    bus.stop()
    bus.client.wait_log("alknet: the session ended: ")
    one.send("a", "first", {})
    more = itertools.count()

    def is_told():
        one.send("a", f"more{next(more)}", {})
        return select.select([one.socket], [], [], 0)[0]

    wait_until(is_told, 30, "the first to be given up")
    either(one.next(), "UNAVAILABLE", "first")


def test_a_program_that_reads_no_answers_is_not_read(front):
    bus = front()
    one = bus.local()
    one.sync()
    # An id that is the client's own: it answers by itself.
    payload = {"operationId": "/services/list", "input": {}}
    call = frame({"type": "call.requested", "id": "~alknet-connect-1", "payload": payload}) * 500
    sent = 0

    def is_held():
        nonlocal sent
        with contextlib.suppress(BlockingIOError):
            while True:
                assert sent < 64 << 20, "it is still read"
                sent += one.socket.send(call[sent % len(call) :])
        return sent

    one.socket.settimeout(0)
    wait_until(Settled(is_held, times=10), 60, "the program to be held")
    one.socket.settimeout(scaled(60))
    if os.environ.get("ALKNET_TEST_FULL"):
        # In the middle of a frame, for longer than one may take: it is not the program who is late.
        late = time.monotonic() + 40
        wait_until(lambda: time.monotonic() > late, 60, "the time of a frame to pass")
    size = len(call) // 500
    whole, cut = divmod(sent, size)
    assert all(one.next()["type"] == "call.error" for _ in range(whole))
    one.raw(call[cut:size])
    assert one.next()["type"] == "call.error"
    other = bus.local()
    assert other.sync() == []


def test_bad_addresses(tmp_path, keys):
    for address, words in [("tcp:1", "is not unix:"), ("unix:", "is not unix:"), (f"unix:{tmp_path}", "is not a socket"),
                           ("unix:" + "/x" * 60, "longer than")]:
        done = run("connect", "--server", "127.0.0.1:1", "--identity", keys.path("user"), "--socks5", "none", "--bus", address)
        assert done.returncode == 2 and "--bus" in done.stderr and words in done.stderr, done


# The commands.


def run(*argv, env=None, timeout=60, **more):
    return subprocess.run([procs.alknet(), *map(str, argv)], capture_output=True, text=True, timeout=scaled(timeout),
                          env=procs.environment(**(env or {})), **more)


class Place:
    def __init__(self, path, server):
        self.path, self.bus, self.server = path, f"unix:{path}", server

    def subscribed(self, n):
        wait_until(lambda: self.server.metric("alknet_bus_subscriptions") == n, 30, "the subscriber")

    def subscriber(self, *argv):
        return subprocess.Popen([procs.alknet(), "sub", "--bus", self.bus, *argv], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=procs.environment())


@pytest.fixture(params=["serve", "connect"])
def place(request, server, client, tmp_path, keys, running_programs):
    """The same commands at a server's own socket and at a client's."""
    path = tmp_path / "bus.sock"
    if request.param == "serve":
        made = Configured(keys, tmp_path, running_programs, bus={"listen": f"unix:{path}"})
        yield Place(path, made.server)
        made.close()
    else:
        made = server()
        client(made, "--bus", f"unix:{path}")
        yield Place(path, made)


def test_pub_and_sub(place):
    listening = place.subscriber("--count", "3", "a.*", "b")
    place.subscribed(2)
    assert run("pub", "--bus", place.bus, "a.b:7", '{"text": "h\\u00e4\\u0085"}').returncode == 0
    done = run("pub", "b", "-", input='1\n\n{"n": 2}\n"never"\n', env={"ALKNET_BUS": place.bus})
    assert done.returncode == 0, done
    out, _ = listening.communicate(timeout=scaled(30))
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0] == {"type": "a.b", "id": "7", "payload": {"text": "h\u00e4\u0085"}}
    assert [one["payload"] for one in events[1:]] == [1, {"n": 2}]
    assert "\x85" not in out
    assert listening.returncode == 0


def test_flags_behind_the_words(place):
    """They are flags there, too; `--` ends them, and a number below zero is none."""
    bus = place.bus
    listening = place.subscriber("n.*", "--count", "3", "--timeout", "60s")
    place.subscribed(1)
    for words in (["n.a", "-12", "--bus", bus], ["n.b", "--bus", bus, "--", "-3.5"], ["--bus", bus, "--", "n.c", "-"]):
        done = run("pub", *words, input="-7\n")
        assert done.returncode == 0, done
    out, _ = listening.communicate(timeout=scaled(30))
    assert [json.loads(line)["payload"] for line in out.splitlines()] == [-12, -3.5, -7] and listening.returncode == 0
    assert run("pub", "state:1", '{"n": 1}', "--retain", "--bus", bus).returncode == 0
    done = run("sub", "state", "--bus", bus, "--replay", "last", "--count=1", env={"POSIXLY_CORRECT": "1"})
    assert done.returncode == 0 and json.loads(done.stdout)["payload"] == {"n": 1, "retain": True}, done


def test_replay_count_group_timeout(place):
    bus = place.bus
    assert run("pub", "--bus", bus, "--retain", "state:1", '{"n": 1}').returncode == 0
    done = run("sub", "--bus", bus, "--replay", "last", "--count", "1", "state")
    assert done.returncode == 0 and json.loads(done.stdout)["payload"] == {"n": 1, "retain": True}, done
    done = run("sub", "--bus", bus, "--timeout", "100ms", "--count", "1", "nothing")
    assert done.returncode == 1 and "0 of 1 events came in time" in done.stderr
    done = run("sub", "--bus", bus, "--timeout", "100ms", "nothing")
    assert done.returncode == 0 and done.stdout == ""
    done = run("sub", "--bus", bus, "--group", "g", "--replay", "last", "a")
    assert done.returncode == 1 and "INVALID_INPUT" in done.stderr and "a group has no history" in done.stderr


def test_call(place):
    bus, spoke = place.bus, Local(place.path)
    spoke.register("dev1", "/get", {"name": "/watch", "op_type": "subscription"})

    def call(*argv):
        return subprocess.Popen([procs.alknet(), "call", "--bus", bus, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                stdin=subprocess.PIPE, text=True, env=procs.environment())

    calling = call("/dev1/get", '{"path": "x"}')
    asked = spoke.next()
    assert asked["payload"]["input"] == {"path": "x"}
    spoke.respond(asked["id"], {"ok": [1, 2]})
    assert (calling.communicate(timeout=scaled(30)), calling.returncode) == (('{"ok":[1,2]}\n', ""), 0)
    calling = call("/dev1/watch", "-")
    calling.stdin.write("[1]")
    calling.stdin.close()
    calling.stdin = None
    asked = spoke.next()
    assert asked["payload"]["input"] == [1]
    for n in range(3):
        spoke.respond(asked["id"], n)
    spoke.send("call.completed", asked["id"], {})
    assert (calling.communicate(timeout=scaled(30)), calling.returncode) == (("0\n1\n2\n", ""), 0)
    calling = call("--timeout", "8s", "/dev1/get")
    spoke.next()
    out, err = calling.communicate(timeout=scaled(30))
    assert calling.returncode == 1 and "no answer in time" in err and out == ""
    assert spoke.next()["type"] == "call.aborted"
    calling = call("/dev1/get")
    asked = spoke.next()
    spoke.send("call.error", asked["id"], {"code": "BROKEN", "message": "no \x1b[31mpaper"})
    out, err = calling.communicate(timeout=scaled(30))
    assert calling.returncode == 1 and "call: /dev1/get: BROKEN: no " in err and "\x1b" not in err
    calling = call("/dev1/get")
    asked = spoke.next()
    spoke.send("call.error", asked["id"], {"code": "\x1b[2J\u009b31m", "message": "no"})
    out, err = calling.communicate(timeout=scaled(30))
    assert calling.returncode == 1 and r"call: /dev1/get: \x1b[2J\xc2\x9b31m: no" in err and "\x1b" not in err
    done = run("call", "--bus", bus, "/none/x")
    assert done.returncode == 1 and "NOT_FOUND" in done.stderr
    # Interrupted: whoever works on it is told.
    calling = call("/dev1/get")
    spoke.next()
    calling.send_signal(signal.SIGINT)
    assert calling.wait(scaled(30)) == 130
    assert spoke.next()["type"] == "call.aborted"
    listening = place.subscriber("x")
    place.subscribed(1)
    listening.send_signal(signal.SIGINT)
    assert listening.wait(scaled(30)) == 130 and listening.stderr.read() == ""


@pytest.mark.parametrize("argv,words", [
    (["pub", "a"], "say a topic"), (["pub", "a", "text"], "is not JSON"), (["pub", "--count", "1", "a", "1"], "there is no such flag"),
    (["pub", "--retain", "a", "1"], "must be an object"), (["sub"], "say a pattern"), (["sub", "--count", "0", "a"], "--count"),
    (["sub", "--timeout", "x", "a"], "--timeout"), (["sub", "--replay", "all", "a"], "--replay"), (["call"], "say an operation"),
    (["call", "/a", "{"], "is not JSON"), (["call", "--timeout", "1", "--deadline", "1", "/a"], "say one of them"),
    (["sub", "--bus", "/x", "a"], "is not unix:"), (["sub", "--bus"], "needs a value"),
    (["pub", "a", "1", "--retain"], "--retain: the payload must be an object"), (["sub", "a", "--count", "0", "b"], "--count"),
    (["sub", "a", "--frob"], "--frob: there is no such flag"), (["call", "/x", "--timeout", "x", "{}"], "--timeout"),
    (["pub", "a", "--", "--retain"], "is not JSON"), (["sub", "--count", "1", "--"], "say a pattern"),
    (["pub", "a", "-1", "--retain"], "the payload must be an object"), (["pub", "a", "-1", "x"], "say a topic"),
])
def test_bad_words(argv, words, tmp_path):
    quiet = socket.socket(socket.AF_UNIX)
    quiet.bind(str(tmp_path / "quiet.sock"))
    quiet.listen()
    done = run(*argv, env={"ALKNET_BUS": f"unix:{tmp_path}/quiet.sock"})
    assert done.returncode == 2 and words in done.stderr, done
    quiet.close()


def test_no_bus_and_help(tmp_path):
    done = run("sub", "--bus", f"unix:{tmp_path}/none.sock", "a")
    assert done.returncode == 1 and "no bus answers" in done.stderr and "none.sock" in done.stderr
    for name, flag in (("pub", "--retain"), ("sub", "--replay"), ("call", "--deadline")):
        done = run(name, "--help")
        assert done.returncode == 0 and flag in done.stdout and f"alknet {name}" in done.stdout
        assert f".Nm alknet Cm {name}" in run("--help-man").stdout
        assert flag in run("completion", "bash").stdout


# The examples: what docs/BUS.md shows runs.

EXAMPLES = os.path.join(os.environ["ALKNET_SRCDIR"], "scripts", "examples")


@pytest.fixture
def example(running_programs, tmp_path):
    def start(*argv):
        program = procs.Program([str(word) for word in argv], tmp_path / f"example{len(running_programs)}.log")
        running_programs.append(program)
        return program

    return start


@pytest.mark.parametrize("language,name", [("python3", "bus_client.py"), ("node", "bus_client.mjs")])
def test_the_clients(place, example, language, name):
    program = example(language, os.path.join(EXAMPLES, name), place.path)
    program.wait_log('"__ok"')
    peer = Local(place.path).subscribe("pong")
    for n in range(3):
        peer.send("ping", str(n), {"text": "h\u00e4" * 1000, "n": n})
    assert [peer.next()["payload"]["to"]["n"] for _ in range(3)] == [0, 1, 2]


def test_the_spoke(place, example):
    bare = subprocess.run(["python3", os.path.join(EXAMPLES, "bus_spoke.py"), place.path], capture_output=True, text=True, timeout=scaled(30), check=False)
    assert bare.returncode == 1 and bare.stderr.startswith("usage: ") and "Traceback" not in bare.stderr, bare
    program = example("python3", os.path.join(EXAMPLES, "bus_spoke.py"), place.path, "dev1")
    program.wait_log('"call.responded"')
    bus = place.bus
    done = run("call", "--bus", bus, "/dev1/clock/now")
    assert done.returncode == 0 and json.loads(done.stdout)["time"] > 0, done
    done = run("call", "--bus", bus, "/dev1/clock/count", '{"to": 3}')
    assert (done.returncode, done.stdout) == (0, "1\n2\n3\n")
    done = run("call", "--bus", bus, "/dev1/clock/count", '{"to": 300}')
    assert done.returncode == 1 and "INVALID_INPUT" in done.stderr
