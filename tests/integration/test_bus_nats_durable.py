# SPDX-License-Identifier: MIT OR Apache-2.0
"""Durable topics on NATS: their stream, and the history that is read out of it."""

import contextlib
import os
import select
import signal
import time

from harness import natsserver, net, procs
from harness.buswire import error
from harness.waiting import wait_until
from test_bus_nats import mesh, program_of, pytestmark, settled  # noqa: F401


def api(plain, what, value):
    """JetStream's own."""
    plain.publish(f"$JS.API.{what}", value, "api")
    answer = plain.next()[2]
    assert "error" not in answer, answer
    return answer


def replayed(bus, topic):
    peer = bus.peer()
    peer.send("__subscribe", "r", {"topic": topic, "replay": "all"})
    return peer, peer.next()


def peak(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) << 10


def test_durable_topics(mesh):
    nats, a, b = mesh(jetstream=True, durable=["order.>"])
    sender, live = a.peer(), b.peer().subscribe("order.>")
    settled(nats, a, b)
    for n in range(50):
        sender.send("order.new", str(n), {"n": n})
    sender.send("other", "", {})
    assert [live.next()["payload"]["n"] for _ in range(50)] == list(range(50))
    late = b.peer()
    late.send("__subscribe", "r", {"topic": "order.*", "replay": "all"})
    assert late.next() == {"type": "__ok", "id": "r", "payload": {}}
    assert [late.next()["payload"]["n"] for _ in range(50)] == list(range(50))
    # Through a death of NATS.
    nats.kill()
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    sender.send("order.new", "50", {"n": 50})
    sender.sync()
    nats.start()
    assert live.next()["payload"]["n"] == 50
    assert late.next()["payload"]["n"] == 50
    later = a.peer()
    later.send("__subscribe", "r", {"topic": "order.new:50", "replay": "all"})
    assert later.next()["type"] == "__ok"
    assert later.next()["payload"]["n"] == 50
    later.send("__subscribe", "s", {"topic": "order.>", "replay": 4102444800000})
    assert later.sync() == [{"type": "__ok", "id": "s", "payload": {}}]
    later.send("__subscribe", "t", {"topic": "order.>", "replay": "nonsense"})
    error(later.next(), "INVALID_INPUT", "t")
    later.send("__subscribe", "t", {"topic": "order.>", "replay": 9223372036854775807})
    error(later.next(), "INVALID_INPUT", "t")


def test_durable_events_under_way_when_nats_dies(mesh):
    """What NATS did not say to have stored is told to who published it."""
    nats, a, b = mesh(jetstream=True, durable=["order.>"])
    sender, live, other = a.peer(), b.peer().subscribe("order.>"), a.peer()
    settled(nats, a, b)
    sender.send("order.new", "first", {})
    assert live.next()["id"] == "first"
    wait_until(lambda: replayed(a, "order.>")[1]["type"] == "__ok", 20, "the stream")
    pid, sent = program_of(a), 20
    for end in range(2):
        procs.freeze(nats.popen.pid)
        before = procs.bytes_of(pid, "rchar")
        for n in range(sent):
            sender.send("order.new", str(n), {"pad": "x" * 1000})
        assert sender.sync() == []
        sender.send("behind", "", {"pad": "x" * 100000})
        wait_until(lambda: procs.bytes_of(pid, "rchar") - before > 1000 * sent + 100000, 20, "the program to have them")
        nats.kill()
        answers = [sender.next() for _ in range(sent)]
        assert [error(one, "UNAVAILABLE") for one in answers] == ["NATS went away"] * sent
        assert sorted(int(one["id"]) for one in answers) == list(range(sent))
        wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
        nats.start()
        sender.send("order.new", f"again {end}", {})
        assert live.next()["id"] == f"again {end}"
        wait_until(lambda: a.metric("backend_connected") == 1 and b.metric("backend_connected") == 1, 20, "it to be back")
    assert sender.sync() == [] and other.sync() == [] and live.sync() == []
    assert a.metric("backend_refused_total") == 2 * sent


def test_durable_events_that_nobody_acknowledges(mesh):
    """NATS is there, and somebody hears them who is no stream: each ends all the same, and an answer that comes later is none."""
    nats, a = mesh("a", durable=["order.>"])
    sender, plain = a.peer(), natsserver.Plain(nats.port).subscribe("alknet.bus.e.order.>")
    settled(nats, a)
    pid, good = program_of(a), {"stream": "s", "seq": 1}
    late, refused = "NATS did not acknowledge it in time", 0
    for again in range(3):
        begun = time.monotonic()
        for n in range(5):
            sender.send("order.new", str(5 * again + n), {})
        replies = [plain.next()[1] for _ in range(5)]
        plain.publish(replies[2], good)
        soon = time.monotonic() - begun < 8  # or all five may be over by then
        want = [str(5 * again + n) for n in range(5) if n != 2 or not soon]
        answers = [sender.next() for _ in want]
        refused += len(want)
        if soon:
            break
    assert [one["id"] for one in answers] == want and len(want) == 4
    assert {error(one, "UNAVAILABLE") for one in answers} == {late}
    for reply in replies:
        plain.publish(reply, good)
    for again in range(3):
        sender.send("order.new", f"full {again}", {})
        plain.publish(plain.next()[1], {"error": {"code": 503, "err_code": 10077, "description": "it is full"}})
        why = error(sender.next(), "UNAVAILABLE", f"full {again}")
        refused += 1
        if why != late:
            break
    assert why == "it is full"
    assert sender.sync() == [] and a.metric("backend_refused_total") == refused and program_of(a) == pid
    plain.close()


def test_nats_that_does_not_read(mesh):
    """Nothing can be written, so nothing would be noticed: each event ends all the same, and the next connection is a good one."""
    nats, a = mesh("a", jetstream=True, durable=["order.>"])
    sender, answers, sent = a.peer(), [], 64  # 16 MB, of which the sockets take some and the hub's buffer 8
    settled(nats, a)
    procs.freeze(nats.popen.pid)
    for n in range(sent):
        sender.send("order.new", str(n), {"pad": "x" * 250_000})
        answers += sender.sync()
        if answers:  # one that does not fit, or nothing waits any more
            sent = n + 1
            break
    assert answers
    while len(answers) < sent:
        answers.append(sender.next())
    for one in answers:
        error(one, "UNAVAILABLE")
    assert sorted(int(one["id"]) for one in answers) == list(range(sent))
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    nats.popen.send_signal(signal.SIGCONT)
    wait_until(lambda: a.metric("backend_connected") == 1, 20, "it to be back")
    plain = natsserver.Plain(nats.port).subscribe("alknet.bus.e.order.>")
    sender.send("order.new", "last", {})
    while plain.next()[2]["id"] != "last":
        pass
    assert sender.sync() == []
    plain.close()


def test_history_right_behind_a_burst(mesh):
    """It has what NATS had not said to have stored yet."""
    nats, a = mesh("a", jetstream=True, durable=["order.>"])
    sender, sent = a.peer(), 1000
    settled(nats, a)
    for round_ in range(3):
        for n in range(sent):
            sender.send(f"order.{round_}", str(n), {"pad": "x" * 500})
        sender.send("__subscribe", "r", {"topic": f"order.{round_}", "replay": "all"})
        assert sender.next() == {"type": "__ok", "id": "r", "payload": {}}
        assert [sender.next()["id"] for _ in range(sent)] == [str(n) for n in range(sent)]
        sender.send("__unsubscribe", "r")
        assert sender.next()["id"] == "r"


def test_history_before_what_waits_has_gone_out(mesh):
    """One that was there does not come back: events wait for it, and are in no history yet."""
    nats, a, b = mesh(jetstream=True, durable=["order.>"])
    sender = a.peer()
    settled(nats, a, b)
    nats.kill()
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    b.conf.server.expected_status = None
    for pid in procs.tree(b.conf.server.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sender.send("order.new", "held", {})
    assert sender.sync() == []
    nats.start()
    wait_until(lambda: a.metric("backend_connected") == 1, 20, "it to be back")

    def history():
        peer, answer = replayed(a, "order.>")
        if answer["type"] == "__ok":
            return peer
        error(answer, "UNAVAILABLE", "r")

    assert wait_until(history, 20, "there to be history").next()["id"] == "held"


def test_jetstream_that_comes_later(mesh):
    """And what its tools set stays, whoever starts again."""
    nats, a = mesh("a", durable=["order.>"])
    settled(nats, a)
    error(replayed(a, "order.>")[1], "UNAVAILABLE", "r")
    nats.kill()
    wait_until(lambda: a.metric("backend_connected") == 0, 20, "it to be noticed")
    nats.jetstream = True
    nats.start()
    wait_until(lambda: a.metric("backend_connected") == 1, 20, "it to be back")
    sender = a.peer()
    wait_until(lambda: replayed(a, "order.>")[1]["type"] == "__ok", 20, "the stream")
    for n in range(5):
        sender.send("order.new", "", {"n": n})
    sender.sync()
    settled(nats, a)
    peer, answer = replayed(a, "order.>")
    assert answer["type"] == "__ok" and [peer.next()["payload"]["n"] for _ in range(5)] == list(range(5))
    plain = natsserver.Plain(nats.port).subscribe("api")
    config = api(plain, "STREAM.INFO.alknet_bus", None)["config"]
    assert config["subjects"] == ["alknet.bus.e.order.>"]
    api(plain, "STREAM.UPDATE.alknet_bus", {**config, "max_msgs": 3})
    a.conf.reload(bus={"backend": nats.url, "durable": ["order.>", "bill.>"]})
    wait_until(lambda: len(api(plain, "STREAM.INFO.alknet_bus", None)["config"]["subjects"]) == 2, 20, "the new subjects")
    after = api(plain, "STREAM.INFO.alknet_bus", None)["config"]
    assert after["max_msgs"] == 3 and after["subjects"] == ["alknet.bus.e.order.>", "alknet.bus.e.bill.>"]
    plain.close()


def test_what_is_refused_later_leaves_nothing(mesh):
    nats, a = mesh("a", jetstream=True, durable=["order.>"])
    peer = a.peer()
    for n in range(20):
        peer.send("__subscribe", "r", {"topic": f"no.{n}", "replay": "all"})
        error(peer.next(), "UNAVAILABLE", "r")
    wait_until(lambda: a.metric("subscriptions") == 0, 20, "them to be forgotten")
    assert a.conf.call("bus.topics")["patterns"] == []


def test_history_that_was_there_when_it_was_asked_for(mesh):
    policy = """local go = false
alknet.subscribe("go")
return {
	on_subscribe = function() while not go do alknet.sleep(0.15) end return "allow" end,
	on_event = function() go = true end,
}"""
    for name in "abc":
        nats, a = mesh(name, jetstream=True, policy=policy, durable=["order.>"])
        peer, other = a.peer(), a.peer()
        peer.send("__subscribe", "r", {"topic": "order.>", "replay": "all"})
        a.conf.reload(bus={})
        other.send("go")
        answer = peer.next()
        if answer["type"] == "__ok" or answer["payload"].get("code") == "INVALID_INPUT":
            break
        nats.close()  # the policy has five seconds for its answer, and the reload took them
    error(answer, "INVALID_INPUT", "r")
    assert peer.sync() == []


def test_what_comes_while_history_is_read_comes_once(mesh):
    nats, a = mesh("a", jetstream=True, durable=["order.>"])
    sender, late, plain = a.peer(), a.peer(), natsserver.Plain(nats.port).subscribe("info")

    def stored():
        plain.publish("$JS.API.STREAM.INFO.alknet_bus", None, "info")
        return plain.next()[2]["state"]["messages"]

    for n in range(500):
        sender.send("order.new", "", {"n": n})
    wait_until(lambda: stored() == 500, 20, "them to be stored")
    for sent in (1000, 1500, 2000):
        procs.freeze(nats.popen.pid)
        late.send("__subscribe", "r", {"topic": "order.>", "replay": "all"})
        wait_until(lambda: a.conf.call("bus.topics")["patterns"] or net.waiting_bytes(late.wire.sock), 20, "the hub to have it")
        for n in range(sent - 500, sent):
            sender.send("order.new", "", {"n": n})
        assert sender.sync() == []
        nats.popen.send_signal(signal.SIGCONT)
        answer = late.next()
        if answer["type"] == "__ok":
            break
        error(answer, "UNAVAILABLE", "r")  # it stood still for longer than history is waited for
        wait_until(lambda: stored() == sent, 20, "them to be stored")
    assert answer == {"type": "__ok", "id": "r", "payload": {}}
    assert [late.next()["payload"]["n"] for _ in range(sent)] == list(range(sent))
    assert late.sync() == []
    plain.close()


def test_history_is_not_kept_whole(mesh):
    nats, a = mesh("a", jetstream=True, durable=["order.>"], max_queue=256 << 10)
    plain, peer = natsserver.Plain(nats.port).subscribe("stored"), a.peer()
    pid = a.conf.server.workers()[0]
    for n in range(2048):
        plain.publish("alknet.bus.e.order.new", {"type": "order.new", "id": str(n), "payload": "x" * 32000}, "stored")
    for _ in range(2048):
        plain.next()
    before = peak(pid)
    peer.send("__subscribe", "r", {"topic": "order.>", "replay": "all"})
    assert peer.next() == {"type": "__ok", "id": "r", "payload": {}}
    dropped = peer.next()
    assert dropped["type"] == "__dropped"
    kept = 2048 - dropped["payload"]["count"]
    assert 4 <= kept <= 8
    assert [int(peer.next()["id"]) for _ in range(kept)] == list(range(2048 - kept, 2048))
    assert peer.sync() == []
    assert peak(pid) - before < 16 << 20
    plain.close()


SHARE, ALL = 16, 64  # histories of one identity, and of all


def numbered(each):
    """A policy: so many logins are one identity, then the next ones another."""
    return f"""local n = -1
return {{ on_auth = function() n = n + 1; return "allow", {{ id = tostring(n // {each}) }} end }}"""


def ask(peer):
    peer.send("__subscribe", "r", {"topic": "order.>", "replay": "all"})


def refused_of(peers):
    """All of them ask; the first that is refused."""
    by_sock = {peer.wire.sock: peer for peer in peers}
    for peer in peers:
        ask(peer)

    def answered():
        for sock in select.select(list(by_sock), [], [])[0]:
            if by_sock[sock].next()["payload"]["code"] == "OVERLOADED":
                return by_sock[sock]
            ask(by_sock[sock])  # it had waited for too long

    return wait_until(answered, 20, "one to be refused")


def test_how_many_histories_are_read(mesh):
    """What does not end holds a thread of the program's; who leaves gives it back."""
    nats, a = mesh("a", jetstream=True, durable=["order.>"], policy=numbered(SHARE))
    peers = [a.peer() for _ in range(ALL + 1)]
    procs.freeze(nats.popen.pid)
    peers.remove(refused := refused_of(peers))
    for peer in peers[:32]:
        peer.wire.close()
    nats.popen.send_signal(signal.SIGCONT)
    for peer in peers[32:]:
        assert peer.next()["id"] == "r"
    wait_until(lambda: ask(refused) or refused.next()["type"] == "__ok", 20, "room")


def test_histories_of_an_identity(mesh):
    """One has no more than its share of them; who is another has his."""
    nats, a = mesh("a", jetstream=True, durable=["order.>"], policy=numbered(SHARE + 1))
    peers, other = [a.peer() for _ in range(SHARE + 1)], a.peer()
    procs.freeze(nats.popen.pid)
    peers.remove(refused := refused_of(peers))
    ask(other)
    nats.popen.send_signal(signal.SIGCONT)
    assert other.next()["payload"].get("code") != "OVERLOADED"
    for peer in peers:
        assert peer.next()["id"] == "r"
    wait_until(lambda: ask(refused) or refused.next()["type"] == "__ok", 20, "room")
