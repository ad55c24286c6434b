# SPDX-License-Identifier: MIT OR Apache-2.0
"""Topics on the bus: through the real server, with several workers and with none."""

import json
import os
import select
import signal
import struct
import subprocess
import time

import pytest

from harness import procs
from harness.buswire import CONTROL, Peer, error, frame, unpack
from harness.configured import Configured
from harness.waiting import wait_until


class Bus:
    def __init__(self, configured):
        self.conf = configured

    def peer(self, key="user", **more):
        return Peer(self.conf.login(key), **more)

    def metric(self, name):
        return self.conf.server.metric(f"alknet_bus_{name}")


@pytest.fixture
def bus(keys, tmp_path, running_programs):
    made = []

    def start(workers=1, **options):
        made.append(Configured(keys, tmp_path, running_programs, workers=workers, **options))
        return Bus(made[-1])

    yield start
    for one in made:
        one.close()


WORKERS = pytest.mark.parametrize("workers", [0, 1, 2])


@WORKERS
def test_events_reach_whoever_subscribed(bus, workers):
    server = bus(workers)
    one, two, sender = (server.peer() for _ in range(3))
    one.subscribe("file.*").subscribe("job.done:7")
    two.subscribe("file.>")
    for type_, id_ in [("file.new", ""), ("file.new.now", "3"), ("file.old", "9"), ("job.done", "7"), ("job.done", "8"), ("other", "")]:
        sender.send(type_, id_, {"n": 1})
    sender.send("file.end")
    assert [one.next()["type"] for _ in range(4)] == ["file.new", "file.old", "job.done", "file.end"]
    assert [two.next()["type"] for _ in range(4)] == ["file.new", "file.new.now", "file.old", "file.end"]
    assert sender.sync() == []


@WORKERS
def test_order_of_a_publisher_and_no_echo(bus, workers):
    server = bus(workers)
    peers = [server.peer().subscribe("a.>") for _ in range(3)]
    for n in range(300):
        peers[0].send("a.b", str(n % 3), {"n": n})
    for peer in peers[1:]:
        assert [peer.next()["payload"]["n"] for _ in range(300)] == list(range(300))
    assert peers[0].sync() == []


@WORKERS
def test_a_group_gets_each_event_once(bus, workers):
    server = bus(workers)
    members = [server.peer().subscribe("job", group="g") for _ in range(4)]
    plain, sender = server.peer().subscribe("job"), server.peer()
    for n in range(100):
        sender.send("job", "", {"n": n})
    assert [plain.next()["payload"]["n"] for _ in range(100)] == list(range(100))
    sender.sync()
    got = [[one["payload"]["n"] for one in member.sync()] for member in members]
    assert sorted(sum(got, [])) == list(range(100))
    assert all(numbers == sorted(numbers) for numbers in got)
    assert sum(bool(numbers) for numbers in got) >= 2


def test_many_groups(bus):
    """More than a message between workers could name one by one; and what an event costs grows with them, not with their square."""
    # Each login is an identity of its own, because one may have 8192.
    server = bus(1, bus={"max_subscriptions": 4096}, policy="""local n = 0
return { on_auth = function() n = n + 1; return "allow", { id = tostring(n) } end }""")
    type_, id_ = "t" * 255, "i" * 255
    *members, sender = [server.peer() for _ in range(4)]
    for n in range(4096):
        for m, peer in enumerate(members):
            peer.send("__subscribe", str(n), {"topic": f"{type_}:{id_}", "group": f"{m}.{n}".ljust(255, "g")})
        for peer in members if n % 256 == 255 else ():
            assert [peer.next()["type"] for _ in range(256)] == ["__ok"] * 256
    server.conf.reload()
    # In another worker, alone and beside a member that is in the first.
    plain, joined, far = server.peer().subscribe(type_), server.peer(), server.peer()
    joined.subscribe(f"{type_}:{id_}", "j", group="0.0".ljust(255, "g"))
    for n in range(20):
        sender.send(type_, id_, {"n": n})
        assert plain.next()["payload"]["n"] == n
    for peer in members:
        assert [peer.next()["payload"]["n"] for _ in range(20)] == list(range(20))
    assert joined.sync() == []
    far.send(type_, id_, {"n": 20})
    for peer in (plain, joined, *members):
        assert peer.next()["payload"]["n"] == 20
    # What another one had is given again.
    members.pop().wire.close()
    wait_until(lambda: server.metric("subscriptions") == 2 * 4096 + 2, 20, "a third of them to be forgotten")
    for n in range(100):
        joined.subscribe(f"{type_}:{id_}", str(n), group=f"again {n}")
    sender.send(type_, id_, {"n": 21})
    for peer in (plain, joined, *members):
        assert peer.next()["payload"]["n"] == 21
        assert peer.sync() == []


@pytest.mark.parametrize("reload", [False, True], ids=["here", "elsewhere"])
def test_events_that_many_want_let_others_have_their_turn(bus, reload):
    server = bus(1, bus={"max_subscriptions": 4096}, watchdog_timeout=60)
    members, other = [server.peer() for _ in range(4)], server.peer().subscribe("end")
    for n in range(4096):
        for peer in members:
            peer.send("__subscribe", str(n), {"topic": ">"})
        for peer in members if n % 512 == 511 else ():
            assert [peer.next()["type"] for _ in range(512)] == ["__ok"] * 512
    pid = server.conf.server.workers()[0]
    if reload:
        server.conf.reload()
    sender = server.peer()
    # So that it finds all of it at once; libev begins with what came last.
    procs.freeze(pid)
    other.send("__unsubscribe", "asked")
    sender.raw(b"".join(frame({"type": "a", "id": str(n), "payload": 1}) for n in range(600)))
    sender.send("end")
    if reload:
        sender.subscribe("the hub has all of it")
    os.kill(pid, signal.SIGCONT)
    error(other.next(), "NOT_FOUND", "asked")
    assert other.next()["type"] == "end"
    for peer in members:
        assert [peer.next()["id"] for _ in range(601)] == [*map(str, range(600)), ""]
    assert sender.sync() == []


@WORKERS
def test_a_member_that_sends_is_not_served(bus, workers):
    server = bus(workers)
    one, two = (server.peer().subscribe("job", group="g") for _ in range(2))
    for n in range(10):
        one.send("job", "", {"n": n})
    assert [two.next()["payload"]["n"] for _ in range(10)] == list(range(10))
    assert one.sync() == []


@WORKERS
def test_unsubscribe_and_deaths(bus, workers):
    server = bus(workers)
    one, two, sender = server.peer().subscribe("a", "first").subscribe("b", "second"), server.peer().subscribe("a"), server.peer()
    one.send("__unsubscribe", "first")
    assert one.next() == {"type": "__ok", "id": "first", "payload": {}}
    one.send("__unsubscribe", "first")
    error(one.next(), "NOT_FOUND", "first")
    two.wire.close()
    wait_until(lambda: server.metric("subscriptions") == 1, 20, "the dead subscriber to be forgotten")
    sender.send("a")
    sender.send("b")
    assert one.next()["type"] == "b"


@WORKERS
def test_retained_values(bus, workers):
    server = bus(workers, bus={"max_retained": 3})
    sender = server.peer()
    for n in range(5):
        sender.send("state", str(n), {"retain": True, "n": n})
    sender.send("state", "4", {"retain": True, "n": 44})
    sender.send("state", "3", {"retain": "forget", "n": 0})
    sender.send("state", "2", {"n": 22})
    sender.sync()
    wait_until(lambda: {one["topic"] for one in server.conf.call("bus.topics")["retained"]} == {"state:2", "state:4"}, 20, "them")
    late = server.peer().subscribe("state", replay="last")
    assert [(late.next()["id"], n) for n in (2, 44)] == [("2", 2), ("4", 44)]
    sender.send("state", "4", {"retain": True, "n": 45})
    assert late.next()["payload"]["n"] == 45
    assert server.peer().subscribe("state").sync() == []


def test_retained_values_outlive_workers(bus):
    server = bus(1)
    sender = server.peer()
    sender.send("state", "", {"retain": True, "n": 1})
    sender.sync()
    server.conf.reload()
    late = server.peer().subscribe("state", replay="last")
    assert late.next()["payload"] == {"retain": True, "n": 1}


def test_generations_share_the_bus(bus):
    server = bus(1)
    old = server.peer().subscribe("a")
    server.conf.reload()
    new = server.peer().subscribe("a")
    new.send("a", "", {"n": 1})
    assert old.next()["payload"]["n"] == 1
    old.send("a", "", {"n": 2})
    assert new.next()["payload"]["n"] == 2


@pytest.mark.parametrize("wrong", [
    {"topic": 1}, {}, {"topic": ""}, {"topic": "a..b"}, {"topic": "a.>.b"}, {"topic": ".a"}, {"topic": "a."},
    {"topic": "x" * 256}, {"topic": "a\tb"}, {"topic": "a", "group": 1}, {"topic": "a", "group": ""},
    {"topic": "a", "replay": True}, {"topic": "a", "replay": "last", "group": "g"}, [], "text", None,
])
def test_bad_subscriptions(bus, wrong):
    peer = bus().peer()
    peer.raw(frame({"type": "__subscribe", "id": "x", "payload": wrong}))
    error(peer.next(), "INVALID_INPUT", "x")
    assert peer.subscribe("a").sync() == []


@pytest.mark.parametrize("type_,id_", [
    ("__other", "x"), ("call.other", "x"), ("error", "x"), ("alknet-control", "x"), ("a.*", "x"), ("a.>", "x"), ("a..b", "x"),
    ("a.", "x"), ("x" * 256, "x"), ("a\nb", "x"), ("a", "\u0007"), (".".join("a" * 20), "x"), ("a:b", "x"), ("a:b", ""), ("error:1", ""),
])
def test_t63_reserved_and_bad_types(bus, type_, id_):
    server = bus()
    everything, peer = server.peer().subscribe(">"), server.peer()
    peer.send(type_, id_)
    error(peer.next(), "INVALID_INPUT", id_)
    peer.send("good")
    assert everything.next()["type"] == "good"


def test_t63_a_type_is_not_another_ones_topic(bus):
    """Type "no:7" would be the topic of type "no", which the policy forbids."""
    server = bus(policy=POLICY)
    one, peer = server.peer().subscribe("ok"), server.peer()
    for type_ in ("no", "ok:7", "no:7"):
        peer.send(type_)
        error(peer.next(), "FORBIDDEN" if type_ == "no" else "INVALID_INPUT", "")
    assert one.sync() == [] and peer.sync() == []


def test_t63_huge_ids(bus):
    peer = bus().peer()
    peer.send("a", "x" * 1000000)
    error(peer.next(), "INVALID_INPUT", "")
    assert peer.subscribe("a").sync() == []


@pytest.mark.parametrize("length", [0, (1 << 20) + 1, 0xFFFFFFFF])
def test_t60_bad_lengths(bus, length):
    server = bus()
    other, peer = server.peer().subscribe("a"), server.peer()
    peer.raw(struct.pack(">I", length))
    assert "1048576" in error(peer.next(), "INVALID_FRAME", "")
    peer.wait_close()
    assert peer.wire.is_alive()
    assert other.sync() == []
    wait_until(lambda: server.metric("invalid_frames_total") == 1, 20, "the counter")


def test_t60_the_limit_and_each_cut(bus):
    server = bus()
    one, two = server.peer().subscribe("a"), server.peer()
    head = b'{"type":"a","id":"","payload":"'
    two.raw(frame(head + b"x" * ((1 << 20) - len(head) - 2) + b'"}'))
    assert len(one.next()["payload"]) == (1 << 20) - len(head) - 2
    text = frame({"type": "a", "id": "7", "payload": {"n": 1}})
    for at in range(1, len(text)):
        two.wire.data(two.channel, text[:at])
        two.wire.data(two.channel, text[at:])
    for _ in range(1, len(text)):
        assert one.next() == {"type": "a", "id": "7", "payload": {"n": 1}}


@pytest.mark.parametrize("text", [b"\0", b"\0\0\0\1", b"\0\0\0\5{"])
def test_t60_the_end_inside_a_frame(bus, text):
    peer = bus().peer()
    peer.raw(text)
    peer.end()
    error(peer.next(), "INVALID_FRAME", "")
    peer.wait_close()
    assert peer.wire.is_alive()


def test_t60_a_length_that_never_arrives(bus):
    server = bus(bus={"frame_timeout": 0.2})
    peer = server.peer()
    peer.raw(b"\0\0")
    error(peer.next(), "INVALID_FRAME", "")
    peer.wait_close()


def nested(depth):
    return b'{"type":"a","id":"9","payload":' + b"[" * depth + b"]" * depth + b"}"


BAD_JSON = [
    b"{", b"nonsense", b"[]", b"7", nested(32), nested(1000), b'{"type":"a","type":"b","id":"","payload":1}', b'{"type":"a","id":"","payload":"\xff"}',
    b'{"type":"a","id":"","payload":"\xc0\xaf"}', b'{"type":"a","id":"","payload":"\\ud800"}', b'{"type":"a","id":"","payload":"\\u0000"}',
    b'{"type":"a","id":"","payload":1e400}', b'{"type":"a","id":"","payload":NaN}', b'{"type":"a","id":"","payload":1} x', b'{"type":"a","id":""}',
    b'{"type":1,"id":"","payload":1}', b'{"type":"a","id":1,"payload":1}', b'{"type":"","id":"","payload":1}', b'{"id":"","payload":1}',
    b'{"type":"a","payload":1}', b'{"type":"a","id":"","payload":1,"more":1}', b'{"type":"a","id":"","payload":[' + b"0," * 70000 + b"0]}",
    b'{"type":"a","id":"","payload":9223372036854775808}', b'{"type":"a","id":"","payload":"\0"}',
]


@pytest.mark.parametrize("text", BAD_JSON, ids=range(len(BAD_JSON)))
def test_t61_bad_json_costs_the_channel(bus, text):
    server = bus()
    other, peer = server.peer().subscribe(">"), server.peer()
    peer.raw(frame(text))
    error(peer.next(), "INVALID_FRAME")
    peer.wait_close()
    assert peer.wire.is_alive()
    assert other.sync() == []


def test_t61_as_deep_and_as_many_as_may_be(bus):
    server = bus()
    one, two = server.peer().subscribe("a"), server.peer()
    two.raw(frame(nested(31)))
    assert one.next()["id"] == "9"
    # Envelope, type, id, list and what is in it.
    two.raw(frame(b'{"type":"a","id":"","payload":[' + b"0," * (65536 - 5) + b"0]}"))
    assert len(one.next()["payload"]) == 65536 - 4
    two.raw(frame(b'{"type":"a","id":"","payload":[' + b"0," * (65536 - 4) + b"0]}"))
    error(two.next(), "INVALID_FRAME")


def test_t61_numbers_go_through_as_they_came(bus):
    server = bus()
    one, two = server.peer().subscribe("a"), server.peer()
    two.raw(frame(b'{ "payload": {"n": 9007199254740993, "x": 1.0E+2, "t": "\\u00e9"}, "id": "", "type": "a" }'))
    while len(one.buffer) < 80:
        one.fill()
    assert b"1.0E+2" in one.buffer and one.next()["payload"]["n"] == 9007199254740993


def blob(n):
    return {"n": n, "text": "x" * 60000}


@WORKERS
def test_t62_a_slow_subscriber_loses_the_oldest(bus, workers):
    server = bus(workers, bus={"max_queue": "300K"})
    slow, quick, sender = server.peer(window=100000).subscribe("a"), server.peer().subscribe("a"), server.peer()
    for n in range(60):
        sender.send("a", "", blob(n))
        assert quick.next()["payload"]["n"] == n
    wait_until(lambda: server.metric("dropped_total") > 30, 20, "events to be dropped")
    sender.send("a", "", {"n": 60})
    quick.next()
    slow.window(1 << 30)
    got, told = [], []
    while 60 not in got:
        one = slow.next()
        if one["type"] == "__dropped":
            told.append(one["payload"]["count"])
        else:
            got.append(one["payload"]["n"])
    assert got == sorted(got) and len(got) + sum(told) == 61 and len(told) == 1
    assert sender.sync() == []


def test_t62_or_is_closed(bus):
    server = bus(bus={"max_queue": "300K", "slow_consumer": "close"})
    slow, sender = server.peer(window=100000).subscribe("a"), server.peer()
    for n in range(60):
        sender.send("a", "", blob(n))
    wait_until(lambda: server.metric("subscriptions") == 0, 20, "the slow subscriber to go")
    slow.wait_close()
    assert slow.wire.is_alive() and sender.sync() == []


def test_t62_who_asks_and_does_not_read_is_not_read(bus):
    server = bus()
    peer, other = server.peer(window=1000), server.peer().subscribe("a")
    one = frame({"type": "__unsubscribe", "id": "x" * 250, "payload": {}})
    peer.raw(one * 6000)
    other.send("b")
    assert other.sync() == []
    peer.window(1 << 30)
    for _ in range(6000):
        error(peer.next(), "NOT_FOUND")


def test_t62_a_frame_that_we_do_not_read_is_not_late(bus):
    """It has begun, then its sender's answers wait and its channel is not read: that is not the frame standing still."""
    server = bus(bus={"frame_timeout": 8})
    dev, other = server.peer(), server.peer().subscribe("a")
    dev.register("dev", "/x")
    peer, text = server.peer(window=1000), frame({"type": "a", "id": "", "payload": "whole"})
    for n in range(6):
        peer.request("/dev/x", n, str(n))
    asked = [dev.next() for _ in range(6)]
    for one in asked[:4]:
        dev.respond(one["id"], "x" * 60_000)
    other.request("/dev/x", "clock", deadline=int(time.time() * 1000) + 18000)
    dev.next()
    peer.raw(text[:10])
    for one in asked[4:]:
        dev.respond(one["id"], "x" * 60_000)
    dev.sync()
    peer.raw(text[10:20])
    error(other.next(), "TIMEOUT", "1", "call.error")  # more than twice the time of a frame
    peer.window(1 << 30)
    assert [peer.next()["id"] for _ in range(6)] == [str(n) for n in range(6)]
    peer.raw(text[20:])
    assert other.next()["payload"] == "whole"
    assert peer.sync() == []


def test_a_channel_may_send_so_many_frames(bus):
    server = bus(bus={"max_rate": 50})
    one, sender = server.peer().subscribe("a"), server.peer()
    for n in range(80):
        sender.send("a", "", {"n": n})
    assert [one.next()["payload"]["n"] for _ in range(80)] == list(range(80))


def test_too_many_subscriptions(bus):
    peer = bus(bus={"max_subscriptions": 2}).peer().subscribe("a").subscribe("b")
    peer.send("__subscribe", "c", {"topic": "c"})
    error(peer.next(), "OVERLOADED", "c")
    peer.send("__subscribe", "a", {"topic": "c"})
    error(peer.next(), "INVALID_INPUT", "a")


POLICY = """return {
  on_publish = function(session, envelope)
    if envelope.type == "wait" then alknet.sleep(0.01) end
    if envelope.type == "no" then return "deny", "not " .. envelope.id end
    if envelope.type == "bad" then error("oh") end
    return "allow"
  end,
  on_subscribe = function(session, topic) return topic == "no" and "deny" or "allow" end,
  on_open = function() return "service", "bus" end,
}"""


def test_the_policy_is_asked(bus):
    server = bus(policy=POLICY)
    one, sender = server.peer().subscribe("ok.>").subscribe("wait"), server.peer()
    sender.send("wait", "", {"n": 1})
    sender.send("ok.b", "", {"n": 2})
    assert [one.next()["payload"]["n"] for _ in range(2)] == [1, 2]
    sender.send("no", "7")
    assert error(sender.next(), "FORBIDDEN", "7") == "not 7"
    sender.send("bad", "8")
    assert "oh" not in error(sender.next(), "FORBIDDEN", "8")
    sender.send("__subscribe", "r", {"topic": "no"})
    error(sender.next(), "FORBIDDEN", "r")
    sender.send("wait")
    sender.wire.close()
    assert one.sync() in ([], [{"type": "wait", "id": "", "payload": {}}])
    wait_until(lambda: server.metric("denied_total") == 3, 20, "the counter")


def test_admin_sees_and_publishes(bus):
    server = bus(2)
    peer = server.peer().subscribe("a.*").subscribe("b", group="g")
    assert server.conf.call("bus.subscribers", topic="a.x") == [{"pattern": "a.*", "subscribers": 1}]
    assert {"pattern": "b", "subscribers": 1, "group": "g"} in server.conf.call("bus.topics")["patterns"]
    server.conf.call("bus.publish", topic="a.x:5", payload='{"n": 1}')
    assert peer.next() == {"type": "a.x", "id": "5", "payload": {"n": 1}}
    with pytest.raises(procs.AdminError, match="reserved"):
        server.conf.call("bus.publish", topic="__x")
    with pytest.raises(procs.AdminError, match="deeper than a frame"):
        server.conf.call("bus.publish", topic="a.x", payload="[" * 32 + "]" * 32)
    server.conf.call("bus.publish", topic="a.kept", payload='{"retain": true, "n": 2}')
    assert peer.next()["payload"]["n"] == 2
    late = server.peer().subscribe("a.*", replay="last")
    assert late.next() == {"type": "a.kept", "id": "", "payload": {"retain": True, "n": 2}}
    server.conf.call("bus.publish", topic="a.kept", payload='{"retain": "forget"}')
    assert server.conf.call("bus.topics")["retained"] == []
    assert server.metric("published_total") == 3


def test_admin_tail(bus):
    server = bus(1)
    tail = subprocess.Popen([procs.alknet_admin(), "--socket", server.conf.server.admin, "--json", "bus.tail", "a.>"],
                            stdout=subprocess.PIPE, text=True)
    try:
        sender, n = server.peer(), 0
        line = ""
        while not line:
            sender.send("a.b", str(n), {"n": n})
            n += 1
            sender.sync()
            if select.select([tail.stdout], [], [], 0.05)[0]:
                line = tail.stdout.readline()
        assert json.loads(line)["type"] == "a.b"
    finally:
        tail.kill()
        tail.wait()
        tail.stdout.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_admin_tail_ends_with_the_server(bus, workers):
    server = bus(workers).conf.server
    tail = subprocess.Popen([procs.alknet_admin(), "--socket", server.admin, "bus.tail"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not select.select([tail.stdout], [], [], 0.05)[0]:
            server.call("bus.publish", topic="a.b", payload="{}")
        server.expected_status = 0
        assert server.stop() == 0
        assert "the server ends" in tail.communicate(timeout=30)[1] and tail.returncode == 1
        assert not os.path.exists(server.admin)
    finally:
        tail.kill()
        tail.communicate()


def test_plain_ssh(bus, keys):
    server = bus(2)
    other = server.peer().subscribe("from.ssh")
    ssh = subprocess.Popen(
        ["ssh", "-F", "none", "-i", keys.path("user"), "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes",
         "-o", "LogLevel=ERROR", "-p", str(server.conf.port), "-W", f"{CONTROL}:1", "127.0.0.1"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = ssh.communicate(
        frame({"type": "call.requested", "id": "1", "payload": {"operationId": "/services/list", "input": {}}})
        + frame({"type": "from.ssh", "id": "", "payload": {"n": 1}}), timeout=30)
    assert other.next()["payload"] == {"n": 1}
    (answer,) = unpack(out)
    assert {"name": "/services/list", "op_type": "query"} in answer["payload"]["output"]["operations"]
    assert ssh.returncode == 0
