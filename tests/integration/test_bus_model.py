# SPDX-License-Identifier: MIT OR Apache-2.0
"""Random publishers, subscribers, groups and deaths beside a model of a few lines: order of a publisher, exactly one member of a
group, nothing to who may not have it. ALKNET_MODEL_SEED=N runs one seed, ALKNET_MODEL_ROUNDS=N makes it longer."""

import os
import random

import pytest

from harness import sshwire
from harness.buswire import Peer
from harness.waiting import wait_until
from test_bus import bus  # noqa: F401

SEEDS = [int(os.environ["ALKNET_MODEL_SEED"])] if "ALKNET_MODEL_SEED" in os.environ else [1, 2, 3]
ROUNDS = int(os.environ.get("ALKNET_MODEL_ROUNDS", "10"))

# A guest has nothing to do with secrets: it may neither say nor hear them.
POLICY = """
return {
	on_auth = function(request) return "allow", { id = request.user } end,
	on_publish = function(session, envelope)
		if session.identity.id == "guest" and envelope.type:sub(1, 6) == "secret" then return "deny" end
		return "allow"
	end,
	on_subscribe = function(session, topic)
		if session.identity.id == "guest" and topic:sub(1, 5) ~= "open." and topic ~= "barrier" then return "deny" end
		return "allow"
	end,
}
"""
TYPES = ["open.a", "open.b", "open.a.c", "secret.a", "secret.b.c"]
PATTERNS = ["open.a", "open.*", "open.>", "*.a", "*.*.c", ">", "secret.>", "secret.*", "open.a:1", "open.>:2"]


# ---- the model ---------------------------------------------------------------------------------------

def match(pattern, type_, id_):
    pattern, _, wanted = pattern.partition(":")
    tokens, have = pattern.split("."), type_.split(".")
    if tokens[-1] == ">" and len(have) >= len(tokens):
        tokens, have = tokens[:-1], have[: len(tokens) - 1]
    return (not wanted or wanted == id_) and len(tokens) == len(have) and all(t in ("*", h) for t, h in zip(tokens, have))


def may_publish(user, type_):
    return user != "guest" or not type_.startswith("secret")


def may_subscribe(user, pattern):
    return user != "guest" or pattern.startswith("open.")


# ---- the test ----------------------------------------------------------------------------------------

class Actor:
    """A peer that subscribes for itself, or is a member of one group."""

    def __init__(self, number, user, server, group):
        wire = sshwire.Wire(server.conf.port)
        self.peer = Peer(wire.login(sshwire.load_key(server.conf.keys.path("user")), user))
        self.number, self.user, self.group, self.wants, self.refs = number, user, group, set(), 0
        self.peer.subscribe("barrier")

    def subscribe(self, pattern):
        self.peer.send("__subscribe", pattern, {"topic": pattern, **({"group": self.group[1]} if self.group else {})})
        answer = self.peer.next()
        assert (answer["type"] == "__ok") == may_subscribe(self.user, pattern), (self.user, pattern, answer)
        if answer["type"] == "__ok":
            self.wants.add(pattern)

    def unsubscribe(self, pattern):
        self.wants.discard(pattern)
        self.peer.send("__unsubscribe", pattern)
        assert self.peer.next() == {"type": "__ok", "id": pattern, "payload": {}}


class World:
    def __init__(self, server, seed):
        self.server, self.random, self.actors, self.made = server, random.Random(seed), [], 0
        for _ in range(6):
            self.arrive()

    def arrive(self):
        self.made += 1
        group = self.random.choice([None, None, ("open.>", "g"), ("*.a", "h"), ("secret.>", "g")])
        actor = Actor(self.made, self.random.choice(["user", "user", "guest"]), self.server, group)
        self.actors.append(actor)
        if group:
            actor.subscribe(group[0])
        else:
            self.change(actor)

    def change(self, actor):
        if actor.group:
            return
        for pattern in self.random.sample(PATTERNS, 3):
            if pattern in actor.wants:
                actor.unsubscribe(pattern)
            else:
                actor.subscribe(pattern)

    def leave(self, actor):
        self.actors.remove(actor)
        actor.peer.wire.close()
        # The hub has forgotten it when it counts what the model counts.
        wait_until(lambda: sum(one["subscribers"] for one in self.server.conf.call("bus.subscribers", topic="barrier"))
                   == sum(len(one.wants & {p for p in one.wants if match(p, "barrier", "")}) + 1 for one in self.actors), 20, "its end")

    def publish(self):
        """Each sends some, all at once; gives what was let through, by sender."""
        sent, refused = {}, {}
        for actor in self.actors:
            events = [(self.random.choice(TYPES), self.random.choice(["", "1", "2"]), f"{actor.number}.{n}")
                      for n in range(self.random.randint(0, 15))]
            for type_, id_, name in events:
                actor.peer.send(type_, id_, name)
            sent[actor.number] = [one for one in events if may_publish(actor.user, one[0])]
            refused[actor.number] = len(events) - len(sent[actor.number])
        return sent, refused

    def collect(self, refused):
        """Everybody's barrier behind everybody's events."""
        for actor in self.actors:
            actor.peer.send("barrier", "", actor.number)
        got = {}
        for actor in self.actors:
            got[actor.number], barriers, errors = [], set(), 0
            while len(barriers) < len(self.actors) - 1 or errors < refused[actor.number]:
                one = actor.peer.next()
                if one["type"] == "error":
                    assert one["payload"]["code"] == "FORBIDDEN"
                    errors += 1
                elif one["type"] == "barrier":
                    barriers.add(one["payload"])
                else:
                    got[actor.number].append((one["type"], one["id"], one["payload"]))
        return got

    def check(self, sent, got):
        for actor in self.actors:
            mine = got[actor.number]
            assert len(mine) == len(set(mine)), "an event came twice"
            for sender, events in sent.items():
                from_it = [one for one in mine if one[2].split(".")[0] == str(sender)]
                wanted = [one for one in events if sender != actor.number and any(match(p, *one[:2]) for p in actor.wants)]
                assert from_it == [one for one in wanted if one in set(from_it)], "order, or an event that was not wanted"
                assert actor.group or from_it == wanted, "an event is missing"
        for group in {actor.group for actor in self.actors if actor.group}:
            for sender, events in sent.items():
                members = [a for a in self.actors if a.group == group and a.wants and a.number != sender]
                for event in events if members else ():
                    n = sum(event in got[member.number] for member in members)
                    assert n == match(group[0], *event[:2]), (group, event, n)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_bus_is_what_the_model_is(bus, workers, seed):
    server = bus(workers, policy=POLICY)
    world = World(server, seed)
    for _ in range(ROUNDS):
        sent, refused = world.publish()
        world.check(sent, world.collect(refused))
        if len(world.actors) > 3 and world.random.random() < 0.5:
            world.leave(world.random.choice(world.actors))
        for actor in world.random.sample(world.actors, 2):
            world.change(actor)
        if len(world.actors) < 9:
            world.arrive()
