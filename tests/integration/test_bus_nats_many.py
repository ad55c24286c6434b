# SPDX-License-Identifier: MIT OR Apache-2.0
"""Many operations and many calls over NATS: what they cost the supervisor, which serves everybody."""

import json
import os
import signal
import threading

from harness import natsserver, procs
from harness.buswire import failed
from harness.waiting import Settled, scaled, wait_until
from test_bus_nats import POLICY, mesh, program_of, pytestmark, settled  # noqa: F401

SPOKES = 64
OPERATIONS = 256


def nobody(plain, operation):
    """No server has it."""
    plain.publish(f"alknet.bus.c.{operation}", 1, "answers")
    return plain.next()[2] is None


def operations(bus):
    return {one["name"] for one in bus.conf.call("operation.list")}


def synced(plain):
    """All that the server said to NATS has arrived: it answers behind it. Nobody does while its subscription is on the way."""
    while True:
        plain.publish("alknet.bus.c.any.where", {}, "answers")
        answer = plain.next()[2]
        if answer is not None:
            return answer


def many_spokes(bus):
    peers = [bus.peer() for _ in range(SPOKES)]
    for n, peer in enumerate(peers):
        assert peer.register(f"s{n}", *(f"/operation/{i}" for i in range(OPERATIONS)))["type"] == "call.responded"
    return peers


def test_many_operations_come_and_go(mesh):
    nats, a = mesh("a")
    plain, before = natsserver.Plain(nats.port).subscribe("answers"), procs.cpu_of_one(a.conf.server.pid)
    for end in ("close", "kill"):
        peers = many_spokes(a)
        settled(nats, a)
        for n in (0, SPOKES - 1):
            plain.publish(f"alknet.bus.c.s{n}.operation.{OPERATIONS - 1}", n, "answers")
            asked = peers[n].next()
            assert asked["payload"] == {"operationId": f"/operation/{OPERATIONS - 1}", "input": n}
            peers[n].respond(asked["id"], n)
            assert plain.next()[2] == n
        if end == "close":
            for peer in peers:
                peer.wire.close()
        else:
            (worker,) = a.conf.server.workers()
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: a.metric("spokes") == 0 and "/any/where" in operations(a), 60, "all to go, and a worker")
        assert synced(plain) == "a"
        assert all(nobody(plain, f"s{n}.operation.{i}") for n in (0, SPOKES - 1) for i in (0, OPERATIONS - 1))
    assert procs.cpu_of_one(a.conf.server.pid) - before < scaled(2)
    plain.close()


def test_the_policys_operations_through_a_reload(mesh):
    nats, a = mesh("a", workers=2)
    plain = natsserver.Plain(nats.port).subscribe("answers")
    settled(nats, a)
    a.conf.policy.write_text(POLICY.replace("/NAME/hello", "/other/hello").replace("NAME", "new"))
    a.conf.reload()
    a.conf.alone()
    wait_until(lambda: "/a/hello" not in operations(a), 20, "the old one to go")
    assert synced(plain) == "new"
    assert nobody(plain, "a.hello") and not nobody(plain, "other.hello")
    os.kill(program_of(a), signal.SIGKILL)  # the next one is told all of it
    wait_until(lambda: a.metric("backend_connects_total") == 2, 20, "another one")
    assert synced(plain) == "new"
    assert nobody(plain, "a.hello") and not nobody(plain, "other.hello")
    plain.close()


def test_calls_of_a_spoke_with_many_operations(mesh):
    """Each looks for the operation; none reads all of them for it."""
    nats, a = mesh("a")
    wide = [{"name": f"/{i}", "input_schema": {"enum": ["x" * 900]}} for i in range(OPERATIONS - 1)]
    spoke, plain, asked = a.peer(), natsserver.Plain(nats.port), 1000
    assert spoke.register("dev", *wide, "/one")["type"] == "call.responded"
    settled(nats, a)
    before = procs.cpu_of_one(a.conf.server.pid)
    for n in range(asked):
        plain.publish("alknet.bus.c.dev.one", n, "answers")
    assert [spoke.next()["payload"]["input"] for _ in range(asked)] == list(range(asked))
    assert procs.cpu_of_one(a.conf.server.pid) - before < scaled(0.5)
    plain.close()


# Who has which key is who.
BY_KEY = POLICY.replace('id = "someone"', 'id = request.key_fingerprint')


def test_many_calls_to_others(mesh, tmp_path):
    """They have a bound, of all and of an identity, and neither an answer nor an end of one looks at all."""
    each, share, most = 2048, 4096, 16384
    nats, a = mesh("a", policy=BY_KEY, call_timeout=300, max_calls=each)
    plain, answers = natsserver.Plain(nats.port).subscribe("alknet.bus.c.prog.never"), natsserver.Plain(nats.port)
    answers.subscribe("alknet.bus.c.prog.one")
    before, peers = procs.cpu_of_one(a.conf.server.pid), []
    for key in range(most // share):
        name = procs.make_key(tmp_path / f"key{key}")
        for peer in [a.peer(str(name)) for _ in range(share // each)]:
            for n in range(each):
                peer.request("/prog/never", {}, str(n))
            peers.append(peer)
        for _ in range(share):
            plain.next()
        failed(a.peer(str(name)).call("/prog/one"), "OVERLOADED")  # while others go on
    last = a.peer(str(procs.make_key(tmp_path / "last")))
    failed(last.call("/prog/never"), "OVERLOADED")
    for peer in peers:
        peer.wire.close()

    def one():
        last.request("/prog/one")
        if (came := last.next())["type"] == "call.error":
            failed(came, "OVERLOADED")
        return came["type"] == "call.responded"

    thread = threading.Thread(target=lambda: answers.publish(answers.next()[1], "done"))
    thread.start()
    wait_until(one, 60, "the calls to end")
    thread.join()
    assert procs.cpu_of_one(a.conf.server.pid) - before < scaled(2)
    for one_of in (plain, answers):
        one_of.close()


def headed(plain, subject, value, reply="", **headers):
    """As a server of alknet that there is not says something."""
    head = "NATS/1.0\r\n" + "".join(f"Alknet-{name}: {text}\r\n" for name, text in headers.items()) + "\r\n"
    body = json.dumps(value)
    plain.write(f"HPUB {subject} {reply} {len(head)} {len(head) + len(body)}\r\n{head}{body}\r\n".encode())


def test_many_calls_of_others(mesh):
    """They have a bound, of all and of an identity, and an end of one does not look at all."""
    share, most, server = 1024, 4096, "0123456789abcdef"
    nats, a = mesh("a", call_timeout=300)
    plain, asked = natsserver.Plain(nats.port).subscribe("answers.*"), 0
    spoke = a.peer()
    assert spoke.register("dev", "/one")["type"] == "call.responded"
    settled(nats, a)

    def alive():
        headed(plain, "alknet.bus.alive", None, From=server)

    def ask(identity, reply):
        who = {"Identity": json.dumps({"id": identity, "scopes": []}), "From": server} if identity else {}
        headed(plain, "alknet.bus.c.dev.one", {"input": 1}, f"answers.{reply}", **who)

    def answer():
        """The first word, of the next."""
        subject, _, value = plain.next()
        return subject, value and value["code"]

    def unheard_of(aborted):
        """Processor time of what ends many calls that nobody made, and one that somebody did."""
        alive()
        before = procs.cpu_of_one(a.conf.server.pid)
        for n in range(20000):
            headed(plain, "alknet.bus.x", f"answers.none{n}", From=server)
        headed(plain, "alknet.bus.x", f"answers.{aborted}", From=server)
        assert spoke.next()["type"] == "call.aborted"
        return procs.cpu_of_one(a.conf.server.pid) - before

    alone = []
    for n in range(3):
        alive()
        ask("alone", f"alone{n}")
        assert answer() == (f"answers.alone{n}", None)
        spoke.next()
        alone.append(unheard_of(f"alone{n}"))
    # Others than the one that has all of its own; the last one is programs without a name.
    for identity in ["i0", "i1", "i2", ""]:
        alive()
        for n in range(share):
            if n % 500 == 0:
                alive()
            ask(identity, f"{identity}{n}")
            asked += 1
        for n in range(share):
            if identity:
                assert answer() == (f"answers.{identity}{n}", None)
            spoke.next()
        if identity != "":
            ask(identity, "more")
            assert answer() == ("answers.more", "OVERLOADED")
    ask("other", "last")
    assert answer() == ("answers.last", "OVERLOADED")
    among = [unheard_of(f"i0{n}") for n in range(3)]
    assert min(among) < 2 * min(alone) + 0.05, (among, alone)  # they are found, not looked for
    alive()
    ask("i0", "again")
    assert answer() == ("answers.again", None)
    plain.close()


def test_many_servers_that_ask_for_what_is_retained(mesh):
    """They come back together; each gets all, as fast as NATS takes it."""
    values, each, asking, word = 8, 1000000, 12, "nobody." + "x" * 200
    nats, a = mesh("a", max_retained_bytes="16M", backend_buffer="64M")
    sender = a.peer()
    for n in range(values):
        sender.send(f"state.{n}", "", {"retain": True, "pad": "x" * each})
        sender.sync()
    settled(nats, a)
    plain, head = natsserver.Plain(nats.port), b"NATS/1.0\r\nAlknet-From: 0123456789abcdef\r\n\r\n"
    plain.subscribe("alknet.bus.k.last")
    # All of them are there before NATS takes the first answer. What was retained comes back from NATS on a way of its own.
    pid = program_of(a)
    wait_until(Settled(lambda: procs.bytes_of(pid, "wchar"), times=10), 20, "the program to have nothing more to say")
    before = procs.bytes_of(pid, "wchar")
    procs.freeze(a.conf.server.pid)
    for reply in [word] * asking + ["alknet.bus.k.last"]:
        plain.write(b"HPUB alknet.bus.s %b %d %d\r\n%b\r\n" % (reply.encode(), len(head), len(head), head))
    wait_until(lambda: procs.bytes_of(pid, "wchar") - before > asking * len(word), 20, "them to be said")
    procs.freeze(pid)
    os.kill(a.conf.server.pid, signal.SIGCONT)
    assert a.metric("backend_connects_total") == 1
    os.kill(pid, signal.SIGCONT)
    got = []
    while len(got) < values:
        value = plain.next()[2]
        assert len(value["payload"]["pad"]) == each
        got.append(value["type"])
    assert got == [f"state.{n}" for n in range(values)]
    assert a.metric("backend_connects_total") == 1 and "does not read" not in a.conf.server.log()
    plain.close()


def test_many_patterns_that_match_the_same(mesh):
    """NATS gives an event for each of them; what that costs grows with them, not with their square."""
    nats, a = mesh("a")
    tokens, events = "abcdefghij", 40
    peer, plain = a.peer(), natsserver.Plain(nats.port)
    for n in range(1 << len(tokens)):
        peer.send("__subscribe", str(n), {"topic": ".".join("*" if n >> i & 1 else token for i, token in enumerate(tokens))})
    assert [peer.next()["type"] for _ in range(1 << len(tokens))] == ["__ok"] * (1 << len(tokens))
    settled(nats, a)
    before, topic = procs.cpu_of_one(a.conf.server.pid), ".".join(tokens)
    for n in range(events):
        plain.publish(f"alknet.bus.e.{topic}", {"type": topic, "id": "", "payload": n})
    assert [peer.next()["payload"] for _ in range(events)] == list(range(events))
    settled(nats, a)
    assert procs.cpu_of_one(a.conf.server.pid) - before < scaled(0.4)
    # Whoever was the first goes, another one comes: it is looked for anew.
    peer.send("__unsubscribe", "0")
    assert peer.next()["id"] == "0"
    settled(nats, a)
    plain.publish(f"alknet.bus.e.{topic}", {"type": topic, "id": "", "payload": "once"})
    assert peer.next()["payload"] == "once"
    settled(nats, a)
    assert peer.sync() == []
    plain.close()
