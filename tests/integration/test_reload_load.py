# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reloads by signal while many sessions carry traffic (THREATS 42). ALKNET_TEST_FULL=1: 200 sessions, 60 reloads."""

import os
import random
import signal
import threading

import pytest

from harness import procs, sshwire
from harness.waiting import Settled, scaled, wait_until

FULL = os.environ.get("ALKNET_TEST_FULL") == "1"
SESSIONS, RELOADS = (200, 60) if FULL else (40, 6)


class Traffic:
    """One session that sends random bytes to an echo and compares, again and again."""

    def __init__(self, wire, port, seed, stop):
        self.wire, self.stop, self.rounds, self.error = wire, stop, 0, None
        self.chance = random.Random(seed)
        self.channel = wire.open_channel(1, "127.0.0.1", port)[0]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stop.is_set():
                sent = self.chance.randbytes(self.chance.randrange(1, 2000))
                self.wire.data(self.channel, sent)
                if self.wire.read(len(sent)) != sent:
                    raise AssertionError("other bytes came back")
                self.rounds += 1
                self.stop.wait(0.2)
        except Exception as error:  # told by the test
            self.error = error


def state(serving):
    pids = procs.tree(serving.pid)
    return len(pids), sum(len(procs.open_files(pid)) for pid in pids), serving.memory()


@pytest.mark.slow
def test_t42_reloads_under_traffic(server, login, targets, sanitized):
    """No byte lost, no session cut, old workers gone, descriptors and memory where they were."""
    serving = server("--max-startups", "0:0:0", "--max-handshakes", "0", workers=2)
    login(serving).close()
    wait_until(lambda: serving.call("status")["links"] == 0, 20, "the first session to be gone")
    serving.call("reload")  # what a first one loads stays
    wait_until(lambda: serving.metric("alknet_generations") == 1, 20, "the first workers to be gone")
    wait_until(Settled(lambda: state(serving)[1], 5), 20, "descriptors to settle")
    processes, files, memory = state(serving)
    stop = threading.Event()
    traffic = []
    try:
        for seed in range(SESSIONS):
            traffic.append(Traffic(login(serving), targets.echo, seed, stop))
        for n in range(RELOADS):
            before = [t.rounds for t in traffic]
            serving.signal(signal.SIGHUP)
            wait_until(lambda n=n: serving.metric("alknet_reloads_total") == n + 2, 30, "the reload")
            login(serving).close()  # and new ones get in
            wait_until(
                lambda before=before: all(t.rounds > b or t.error for t, b in zip(traffic, before)), 30, "each session to go on",
            )
            assert not [t.error for t in traffic if t.error]
        wait_until(lambda: serving.metric("alknet_sessions_authenticated") == SESSIONS, 20, "the sessions, and no others")
    finally:
        stop.set()
        for t in traffic:
            t.thread.join(scaled(20))
    for t in traffic:
        t.wire.close()
    wait_until(lambda: serving.metric("alknet_generations") == 1, 30, "old workers to be gone")
    wait_until(lambda: serving.call("status")["links"] == 0, 20, "all links to be gone")
    wait_until(
        lambda: state(serving)[0] == processes and state(serving)[1] <= files, 20,
        f"{files} descriptors of {processes} processes, not {state(serving)[:2]}",
    )
    if not sanitized:
        assert state(serving)[2] < memory + (8 << 20)
