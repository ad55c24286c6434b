# SPDX-License-Identifier: MIT OR Apache-2.0
"""alknet-iroh alone: what becomes of its links and of what it says when there is too little of something."""

import contextlib
import subprocess
import sys
import time

import pytest

from harness import iroh

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
        client.dial(server)
        client.hear("link")
        time.sleep(0.5)
        holder.stdin.close()
        server.hear("link")


def test_a_shortage_that_stays():
    """A link that cannot be handed over ends the helper: another one starts in a state that its host knows."""
    with pair(FEW) as (server, client), descriptors_in_flight():
        client.dial(server)
        client.hear("link")
        with pytest.raises(EOFError):
            server.hear("link")
        server.popen.wait(20)
