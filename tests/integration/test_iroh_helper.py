# SPDX-License-Identifier: MIT OR Apache-2.0
"""alknet-iroh alone: what becomes of its links and of what it says when there is too little of something."""

import contextlib
import subprocess
import sys
import time

import pytest

from harness import iroh, procs
from harness.waiting import wait_until

pytestmark = pytest.mark.skipif(not iroh.is_built(), reason="iroh is not built: configure found no cargo that is new enough")


@contextlib.contextmanager
def pair(setup="", wrap=()):
    """One that accepts, and one that dials."""
    with contextlib.ExitStack() as stack:
        made = []
        for accept in (True, False):
            made.append(iroh.Helper(setup if accept else "", wrap, accept=accept))
            stack.callback(made[-1].finish)
        yield made


def linked(server, client):
    """Both ends of a link."""
    client.dial(server)
    _, near = client.hear("link")
    _, far = server.hear("link")
    far.setblocking(True)
    return near, far


def fill(link):
    """As much as goes in; gives how much."""
    count = 0
    link.settimeout(3)
    with contextlib.suppress(TimeoutError):
        while True:
            count += link.send(b"x" * 10_000)
    return count


def slow_down(namespace, kilobytes):
    """What goes over loopback waits its turn, at so much a second."""
    try:
        namespace.run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", f"{kilobytes * 8}kbit", "burst", "20k", "latency", "3s")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no slow way here: {error.stderr}")


def ends_well(near, far, count, over, begun):
    """The link is closed, and the peer has all of it; later than `over`, which is when the slow way would not matter."""
    near.close()
    got = 0
    with far:
        while data := far.recv(100_000):
            got += len(data)
    assert got == count
    assert time.monotonic() - begun > over, "the way was not slow"


def test_a_slow_way_has_what_was_in_a_closed_link(namespace):
    """It has not all been read from the link when that is closed: it is as the way takes it."""
    with pair(wrap=namespace.wrap) as (server, client):
        near, far = linked(server, client)
        slow_down(namespace, 45)
        begun = time.monotonic()
        ends_well(near, far, fill(near), 15, begun)


def test_a_slow_way_has_what_waits_to_be_sent(namespace):
    """All was read from the link when it is closed: it goes out at the pace of the way."""
    with pair(wrap=namespace.wrap) as (server, client):
        near, far = linked(server, client)
        slow_down(namespace, 60)
        near.setblocking(True)
        begun = time.monotonic()
        near.sendall(b"x" * 600_000)
        ends_well(near, far, 600_000, 6, begun)


def test_bytes_that_nobody_takes_end_with_their_link():
    """A peer that reads nothing keeps neither a link that was closed nor what is in it."""
    with pair() as (server, client):
        near, far = linked(server, client)
        with far:
            fill(near)
            near.close()
            client.hear("gone", 30)


IN_FLIGHT = """
import os, socket, sys
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
ends = socket.socketpair()
for _ in range(2):
    socket.send_fds(ends[0], [b"x"], [0] * 200)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def descriptors_in_flight():
    """More of the helper's user's than one may have that may have 100."""
    with subprocess.Popen([sys.executable, "-c", IN_FLIGHT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            yield holder
        finally:
            holder.kill()


FEW = "ulimit -n 100;"


def test_a_shortage_that_passes():
    """A link cannot be handed over now, and can a moment later."""
    with pair(FEW) as (server, client), descriptors_in_flight() as holder:
        before = len(procs.open_files(server.popen.pid))
        client.dial(server)
        client.hear("link")
        wait_until(lambda: len(procs.open_files(server.popen.pid)) > before, 20, "the link that it cannot hand over")
        holder.kill()
        server.hear("link")


def test_a_shortage_that_stays():
    """A link that cannot be handed over ends the helper: another one starts in a state that its host knows."""
    with pair(FEW) as (server, client), descriptors_in_flight():
        client.dial(server)
        client.hear("link")
        with pytest.raises(EOFError):
            server.hear("link")
        server.popen.wait(20)
