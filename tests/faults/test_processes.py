# SPDX-License-Identifier: MIT OR Apache-2.0
"""Processes that are killed or stopped under load. Whatever is cut, no stream has other bytes in it."""

import os
import signal
import time

from harness import procs
from harness.load import Load
from harness.waiting import Settled, patient, wait_until

GROWTH = 4 << 20


def sessions_of(serving, pid):
    """How many sessions a worker has: what its end may cut."""
    return next((one["sessions"] for one in serving.call("status")["workers"] if one["pid"] == pid), 0)


def settled(serving):
    """Descriptors and memory of the supervisor, when nothing moves."""
    wait_until(Settled(lambda: len(procs.open_files(serving.pid)), 5), 20, "descriptors to settle")
    wait_until(Settled(lambda: procs.memory_of_one(serving.pid), 5, 1 << 16), 20, "memory to settle")
    return len(procs.open_files(serving.pid)), procs.memory_of_one(serving.pid)


def test_kill_a_worker_at_random(server, client, targets, root, size, chance, sanitized):
    """kill -9 of one of three workers under load, again and again: its sessions end and no other, they come back by themselves, the
    worker is replaced, and the supervisor is as large as before."""
    serving = server(workers=3, conf='watchdog_timeout = "60s"')
    ends = [client(serving) for _ in range(4)]
    loads = [Load(one.port, targets) for one in ends]
    for load in loads:
        load.go_on()
    before = settled(serving)
    lost = 0
    for restarts in range(1, 1 + size(4, 100)):
        victim = chance.choice(serving.workers())
        mine = sessions_of(serving, victim)
        os.kill(victim, signal.SIGKILL)
        lost += mine
        # The supervisor says so itself: until it has seen the end it counts the sessions that ended with it. A worker that
        # did not live long is replaced after up to 30 s.
        wait_until(lambda n=restarts: serving.metric("alknet_worker_restarts_total") == n, 60, "another worker")
        wait_until(lambda: serving.metric("alknet_sessions_authenticated") == len(ends), 60, "the sessions to be back")
        ended = sum(len(one.lines("alknet: the session ended:")) for one in ends)
        assert ended == lost, f"{ended} sessions ended, the workers that were killed had {lost}"
        for load in loads:
            load.go_on(2)
    for load, one in zip(loads, ends):
        cut = load.stop()
        assert cut == 0 or one.lines("alknet: the session ended:"), f"cut without a reason: {load.cut}"
    after = settled(serving)
    assert after[0] <= before[0], "descriptors stay behind in the supervisor"
    if not sanitized:
        assert after[1] - before[1] < GROWTH
    assert serving.metric("alknet_worker_restarts_total") == size(4, 100)


def test_a_stopped_worker_is_replaced(server, client, targets):
    """SIGSTOP of a worker is a hang: the watchdog ends it, its sessions begin again, the others notice nothing."""
    serving = server(workers=2)
    ends = [client(serving) for _ in range(2)]
    loads = [Load(one.port, targets) for one in ends]
    for load in loads:
        load.go_on()
    victim = serving.workers()[0]
    mine = sessions_of(serving, victim)
    procs.freeze(victim)
    wait_until(lambda: not procs.alive(victim), 20, "the watchdog")
    assert serving.metric("alknet_worker_hangs_total") == 1
    wait_until(lambda: serving.metric("alknet_sessions_authenticated") == 2, 60, "the sessions to be back")
    for load in loads:
        load.go_on()
    cut = [load.stop() for load in loads]
    ended = [len(one.lines("alknet: the session ended:")) for one in ends]
    assert sum(ended) == mine, ended
    assert all(not c or e for c, e in zip(cut, ended)), cut


def stop_for(pids, seconds):
    for pid in pids:
        procs.freeze(pid)
    begun = time.monotonic()
    try:
        wait_until(lambda: time.monotonic() - begun > seconds, seconds + 10, "time to pass")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_either_end_stops_for_a_while(server, client, targets, size):
    """SIGSTOP of the server's processes or of the client, for less than a dead peer has: every stream goes on where it was."""
    serving = server("--keepalive", "5", workers=1, conf='watchdog_timeout = "60s"')
    connecting = client(serving, "--keepalive", "5")
    load = Load(connecting.port, targets, 4 << 20)
    load.go_on(3)
    # The supervisor goes with its worker, or its watchdog would say that that hangs.
    for pids in (procs.tree(serving.pid), [connecting.pid], serving.workers()) * size(1, 5):
        stop_for(pids, 2)
        load.go_on(3)
    assert load.stop() == 0, load.cut
    assert not connecting.lines("the session ended")


def test_a_client_that_stays_stopped(server, client, targets, sanitized):
    """Its session is given up and what waited for it is freed; its neighbour on the same worker never waits for it."""
    serving = server("--keepalive", "4", workers=1)
    good = client(serving, "--keepalive", "60")
    load = Load(good.port, targets)
    load.go_on()
    bad = client(serving)
    flood = Load(bad.port, targets, 64 << 20)
    wait_until(lambda: serving.metric("alknet_sessions_authenticated") == 2 and serving.metric("alknet_channels") > 3, 20, "both to be at work")
    before = serving.memory()
    load.slow = []
    procs.freeze(bad.pid)
    try:
        load.go_on(8)
        wait_until(lambda: serving.metric("alknet_sessions_authenticated") == 1, 20, "the stopped one to be given up")
        if not sanitized:
            assert serving.memory() - before < 8 << 20
        load.go_on()
        assert load.waited() < patient(1), f"the neighbour waited {load.slow} s"
        assert load.stop() == 0, load.cut
    finally:
        bad.signal(signal.SIGCONT)
    flood.enough.set()
    bad.wait_log(r"alknet: connected to \S+ again", timeout=40)
    flood.check()
