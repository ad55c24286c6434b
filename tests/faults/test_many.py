# SPDX-License-Identifier: MIT OR Apache-2.0
"""Many sessions and many channels (T20): a bounded price each, and all of it given back."""

import time

import pytest

from harness import procs, sshwire
from harness.load import Load
from harness.waiting import Settled, patient, scaled, wait_until


def files(pid):
    return len(procs.open_files(pid))


def test_idle_sessions_on_one_worker(server, client, login, targets, root, size, sanitized):
    """A few dozen KB each, no processor time, a login among them within 2 s, and nothing left when they go."""
    many = size(300, 10000)
    serving = server("--max-handshakes", "0", "--keepalive", "0", workers=1)
    worker = serving.workers()[0]
    load = Load(client(serving).port, targets)
    load.go_on()
    load.stop()
    for _ in range(20):
        login(serving).close()
    wait_until(lambda: serving.metric("alknet_sessions") == 1, 20, "the first ones to be gone")
    wait_until(Settled(lambda: procs.memory_of_one(worker), 10, 1 << 16), 20, "memory to settle")
    before, open_before = procs.memory_of_one(worker), files(worker)
    wires = [login(serving) for _ in range(many)]
    wait_until(lambda: serving.metric("alknet_sessions_authenticated") == many + 1, 60, "the sessions")
    each = (procs.memory_of_one(worker) - before) / many
    used, begun = procs.cpu_seconds(worker), time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 2, 20, "time to pass")
    assert procs.cpu_seconds(worker) - used < scaled(0.2), "idle sessions cost processor time"
    took = []

    def logs_in():
        begun = time.monotonic()
        one = client(serving, "--stdio", f"127.0.0.1:{targets.echo}", socks5=None, wait=False)
        assert one.wait(20) == 0, one.log()
        took.append(time.monotonic() - begun)
        return took[-1] < patient(2)

    assert any(logs_in() for _ in range(3)), f"logins among them took {took} s"
    for wire in wires[:: max(1, many // 50)]:
        assert wire.is_alive()
    print(f"{many} sessions: {each / 1024:.1f} KiB each")
    if not sanitized:
        assert each < 64 << 10, f"{each:.0f} bytes a session"
    for wire in wires:
        wire.close()
    wait_until(lambda: serving.metric("alknet_sessions") == 1, 60, "the sessions to be gone")
    wait_until(lambda: files(worker) <= open_before, 20, "descriptors to be closed")
    if not sanitized:
        # The allocator keeps some of it; the next as many are served from that.
        wires = [login(serving) for _ in range(min(many, 1000))]
        assert procs.memory_of_one(worker) - before < (64 << 10) * many + (4 << 20)
        for wire in wires:
            wire.close()


@pytest.mark.parametrize("to", ["echo", "refused"])
def test_t20_channel_opens(server, login, targets, root, size, to, sanitized):
    """One session opens channels one after the other, 32 at a time: the worker does not grow with their number, and closes what
    they opened."""
    serving = server(workers=1)
    worker, wire = serving.workers()[0], login(serving)
    many, at_once, before = size(5000, 100000), 32, None
    open_before = files(worker)
    begun = time.monotonic()
    for first in range(0, many, at_once):
        for n in range(first, first + at_once):
            wire.open_request(n, "127.0.0.1", getattr(targets, to))
        theirs, closed = [], 0
        for _ in range(at_once):
            fields = sshwire.Reader(wire.expect(sshwire.OPEN_CONFIRMATION, sshwire.OPEN_FAILURE))
            if fields.byte() == sshwire.OPEN_CONFIRMATION:
                fields.u32()
                theirs.append(fields.u32())
        assert len(theirs) == (at_once if to == "echo" else 0)
        for number in theirs:
            wire.send(bytes([sshwire.CLOSE]) + sshwire.u32(number))
        while closed < len(theirs):
            wire.expect(sshwire.CLOSE)
            closed += 1
        if first // at_once == many // at_once // 5:
            before = procs.memory_of_one(worker)
    rate = many / (time.monotonic() - begun)
    print(f"{many} opens, {rate:.0f} a second")
    if not sanitized:
        assert procs.memory_of_one(worker) - before < 2 << 20
    assert wire.is_alive()
    wait_until(lambda: serving.metric("alknet_channels") == 0, 20, "the channels to be gone")
    wait_until(lambda: files(worker) <= open_before, 20, "descriptors to be closed")
