# SPDX-License-Identifier: MIT OR Apache-2.0
"""Random calls between callers and spokes that answer, fail, fall silent and die, and workers that are killed: every request
ends exactly once, nothing comes behind its end, and nobody is asked or told of what is not his. ALKNET_MODEL_SEED=N runs one seed."""

import contextlib
import os
import random
import signal
import time

import pytest

from harness import sshwire
from harness.waiting import wait_until
from test_bus import bus  # noqa: F401

SEEDS = [int(os.environ["ALKNET_MODEL_SEED"])] if "ALKNET_MODEL_SEED" in os.environ else [1, 2]
ROUNDS = int(os.environ.get("ALKNET_MODEL_ROUNDS", "40"))
OPERATIONS = [{"name": "/get"}, {"name": "/watch", "op_type": "subscription"}]
ENDS = ("call.responded", "call.completed", "call.error", "call.aborted")


class Caller:
    def __init__(self, server, n):
        self.peer, self.n, self.calls, self.open = server.peer(), n, 0, {}

    def ask(self, rng, spokes):
        """`open` has id -> [is a subscription, what was said, answers]."""
        self.calls += 1
        kind, said = rng.choice(["get", "watch"]), f"{self.n}.{self.calls}"
        more = {"deadline": int(time.time() * 1000) + rng.randint(0, 400)} if rng.random() < 0.3 else {}
        self.open[said] = [kind == "watch", 0]
        self.peer.request(f"/s{rng.randrange(spokes)}/{kind}", said, said, **more)

    def abort(self, rng):
        if self.open:
            self.peer.send("call.aborted", rng.choice(sorted(self.open)))

    def hear(self):
        for one in self.peer.sync():
            assert one["type"] in ENDS and one["id"] in self.open, ("behind its end, or nobody's", one)
            many, answers = self.open[one["id"]]
            if one["type"] == "call.responded":
                assert one["payload"]["output"] == [one["id"], answers], one
                self.open[one["id"]][1] += 1
                if many:
                    continue
            assert one["type"] != "call.completed" or many, one
            del self.open[one["id"]]


class Spoke:
    def __init__(self, server, n):
        self.server, self.n = server, n
        self.arrive()

    def arrive(self):
        """The name may be held by the one before for a moment."""
        self.peer, self.asked, self.answered = self.server.peer(), {}, []
        wait_until(lambda: self.peer.register(f"s{self.n}", *OPERATIONS)["type"] == "call.responded", 20, "its name")

    def hear(self):
        for one in self.peer.sync():
            if one["type"] == "call.requested":
                assert one["id"] not in self.asked, one
                self.asked[one["id"]] = [one["payload"]["operationId"] == "/watch", one["payload"]["input"], 0]
            else:
                assert one["type"] == "call.aborted", one
                # It may have crossed the answer.
                assert self.asked.pop(one["id"], None) or one["id"] in self.answered, ("told of what it was not asked", one)

    def work(self, rng):
        for id_ in list(self.asked):
            many, said, answers = self.asked[id_]
            what = rng.choice(["answer", "answer", "answer", "error", "abort", "silence", "silence"])
            if what == "answer":
                self.peer.respond(id_, [said, answers])
                self.asked[id_][2] += 1
                if many and rng.random() < 0.7:
                    continue
                if many:
                    self.peer.send("call.completed", id_)
            elif what == "error":
                self.peer.send("call.error", id_, {"code": "BROKEN", "message": "it is"})
            elif what == "abort":
                self.peer.send("call.aborted", id_)
            if what != "silence":
                self.answered.append(id_)
                del self.asked[id_]
        if rng.random() < 0.2 and self.answered:
            self.peer.respond(self.answered[-1], "late")


def alive(one):
    """Its worker may have been killed."""
    try:
        one.hear()
        return True
    except (sshwire.Closed, EOFError, OSError):
        return False


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_ends_once(bus, workers, seed):
    server, rng = bus(workers, bus={"call_timeout": 3}), random.Random(seed)
    spokes = [Spoke(server, n) for n in range(3)]
    callers, made = [Caller(server, n) for n in range(4)], 4
    for turn in range(ROUNDS):
        for caller in callers:
            for _ in range(rng.randint(0, 4)):
                caller.ask(rng, len(spokes) + 1)  # one of them is not there
            if rng.random() < 0.3:
                caller.abort(rng)
        for spoke in spokes:
            if alive(spoke):
                with contextlib.suppress(OSError):
                    spoke.work(rng)
        if rng.random() < 0.1:
            rng.choice(spokes).peer.wire.close()
        if rng.random() < 0.1:
            rng.choice(callers).peer.wire.close()
        if workers > 1 and turn in (ROUNDS // 3, 2 * ROUNDS // 3):
            old = server.conf.server.workers()
            os.kill(rng.choice(old), signal.SIGKILL)
            wait_until(lambda: len(now := server.conf.server.workers()) == workers and now != old, 20, "another worker")
        for caller in list(callers):
            if not alive(caller):
                callers.remove(caller)
                callers.append(Caller(server, made))
                made += 1
        for spoke in spokes:
            if not alive(spoke):
                spoke.arrive()
    # Everybody serves no more: what is open ends, be it a subscription without an end.
    for spoke in spokes:
        spoke.peer.wire.close()

    def all_ended():
        for caller in callers:
            caller.hear()
        return not any(caller.open for caller in callers)

    wait_until(all_ended, 30, "every request to end")
    wait_until(lambda: server.metric("spokes") == 0, 20, "the spokes to be forgotten")
