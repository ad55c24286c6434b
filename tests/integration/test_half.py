# SPDX-License-Identifier: MIT OR Apache-2.0
"""Plugins with a half in the supervisor: one count for all workers, through reloads and deaths."""

import os
import signal

import pytest

from harness import procs, sshwire
from harness.configured import Configured
from harness.plugins import build
from harness.waiting import wait_until

POLICY = """return { on_open = function(session, destination)
  if destination.host == "count" then return "service", "count" end
  return "forward"
end }"""


class Counting:
    def __init__(self, keys, configured, user):
        self.keys, self.conf, self.user, self.wires = keys, configured, user, []

    def login(self):
        self.wires.append(sshwire.Wire(self.conf.port).login(sshwire.load_key(self.keys.path("user"))))
        return self.wires[-1]

    def ask(self, wire, number=0):
        assert wire.open_channel(number, "count", 1)
        text = b""
        while not text.endswith(b"\n"):
            text += wire.read(1)
        wire.expect(sshwire.EOF)
        return int(text)

    def metric(self, name):
        return self.conf.server.metric(f"alknet_count_{name}")


@pytest.fixture
def counting(keys, tmp_path, running_programs):
    made = []

    def start(workers, step=1, late=False):
        directory = build(tmp_path, "count")
        options = {"workers": workers, "plugin_dir": directory, "policy": POLICY}
        if late:
            (directory / "count.so").rename(tmp_path / "count.so")
        else:
            options["count"] = {"step": step}
        configured = Configured(keys, tmp_path, running_programs, env=procs.environment(ALKNET_PLUGIN_DIR=None), **options)
        if late:
            (tmp_path / "count.so").rename(directory / "count.so")
        made.append(Counting(keys, configured, "tester"))
        return made[-1]

    yield start
    for one in made:
        for wire in one.wires:
            wire.close()
        one.conf.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_one_count_for_all_workers(counting, workers):
    one = counting(workers)
    wires = [one.login() for _ in range(4)]
    got = [one.ask(wire, number) for number in range(3) for wire in wires]
    assert got == list(range(1, 13))
    assert one.metric("total") == 12
    assert one.metric("workers") == max(workers, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_reload_keeps_the_half_and_brings_its_options(counting, workers):
    one = counting(workers)
    old = one.login()
    assert one.ask(old) == 1
    one.conf.write(count={"step": 5})
    one.conf.call("reload")
    # A session of the generation before speaks to the same half.
    assert [one.ask(one.login()), one.ask(old, 1)] == [6, 11]
    old.close()
    wait_until(lambda: one.metric("workers") == max(workers, 1), 20, "the old workers to leave")


def test_a_half_may_refuse_its_options(counting):
    one = counting(1)
    one.conf.write(count={"step": 13})
    with pytest.raises(procs.AdminError, match="plugin count: step 13 is not to be had"):
        one.conf.call("reload")
    assert one.ask(one.login()) == 1


def test_half_learns_of_a_death(counting):
    one = counting(2)
    for wire in [one.login() for _ in range(2)]:
        one.ask(wire)
    old = one.conf.server.workers()[0]
    os.kill(old, signal.SIGKILL)
    # The half may still count the dead one when /proc no longer does.
    wait_until(lambda: one.conf.server.metric("alknet_worker_restarts_total") == 1, 20, "a worker started again")
    wait_until(lambda: one.metric("workers") == 2, 20, "two workers that the half knows")
    assert one.ask(one.login()) == 3


def test_t48_a_half_is_not_unloaded(counting):
    one = counting(1)
    with pytest.raises(procs.AdminError, match="plugin count is in use: it keeps what is one for all workers"):
        one.conf.call("plugin.unload", name="count")
    assert one.ask(one.login()) == 1


def test_half_loaded_while_the_server_runs(counting):
    """A plugin that came into the directory later: its half learns of the workers that are there."""
    one = counting(2, late=True)
    one.conf.call("plugin.load", name="count")
    assert one.ask(one.login()) == 1
    assert one.metric("workers") == 2
