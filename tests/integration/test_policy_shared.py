# SPDX-License-Identifier: MIT OR Apache-2.0
"""alknet.shared in the real program: all workers see it, and it outlives them."""

import os
import signal

from harness import procs, sshwire
from harness.waiting import wait_until

COUNTING = """
return {
  on_open = function(session, destination)
    if destination.port == 1 then
      return "deny", assert(alknet.shared.incr("opens")) and nil
    end
    if alknet.shared.get("opens") == destination.port - 1000 then
      return "forward", { host = "127.0.0.1", port = %d }
    end
    return "deny"
  end,
}
"""


def count(keys, serving, times):
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")), "tester")
        for n in range(times):
            assert wire.open_channel(n, "127.0.0.1", 1) is None


def is_count(keys, serving, number):
    """The policy lets only the port through that stands for its count."""
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")), "tester")
        return wire.open_channel(1, "127.0.0.1", 1000 + number) is not None


def test_workers_count_together(server, keys, targets, workers):
    serving = server(policy=COUNTING % targets.echo, workers=workers)
    for _ in range(4):
        count(keys, serving, 3)
    assert is_count(keys, serving, 12)
    assert not is_count(keys, serving, 11)


def test_it_outlives_a_worker_and_a_reload(server, keys, targets):
    serving = server(policy=COUNTING % targets.echo, workers=1)
    count(keys, serving, 5)
    [worker] = procs.children(serving.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: procs.children(serving.pid) not in ([worker], []), 10, "another worker")
    wait_until(lambda: is_count(keys, serving, 5), 10, "the count in the new worker")
    before = procs.children(serving.pid)
    serving.signal(signal.SIGHUP)
    wait_until(lambda: not set(before) & set(procs.children(serving.pid)), 20, "workers of the new generation alone")
    wait_until(lambda: is_count(keys, serving, 5), 10, "the count after the reload")


def test_the_main_chunk_has_it_too(server, keys, targets):
    serving = server(policy='if not alknet.shared.get("opens") then alknet.shared.set("opens", 7) end' + COUNTING % targets.echo, workers=2)
    for _ in range(4):
        assert is_count(keys, serving, 7)
    count(keys, serving, 3)
    before = procs.children(serving.pid)
    serving.signal(signal.SIGHUP)
    wait_until(lambda: not set(before) & set(procs.children(serving.pid)), 20, "workers of the new generation alone")
    wait_until(lambda: is_count(keys, serving, 10), 10, "the count after the reload")
