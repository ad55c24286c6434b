# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reload: nothing is cut, nothing stays behind, old generations leave (THREATS 42). What is read: test_reload_files.py."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from harness.net import free_port
from harness import net, procs, sshwire
from harness.configured import echoes, lives
from harness.waiting import Settled, scaled, wait_until

GROWTH = 3 << 20


class Traffic:
    """Blocks through an echo target and back, until told to stop: every byte is compared."""

    def __init__(self, sock):
        self.sock, self.enough, self.error = sock, threading.Event(), None
        self.blocks, self.sent, self.got = 0, hashlib.sha256(), hashlib.sha256()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.enough.wait(0.002):
                for piece in net.pattern(4 * net.BLOCK):
                    self.sent.update(piece)
                    sender = threading.Thread(target=self.sock.sendall, args=(bytes(piece),))
                    sender.start()
                    self.got.update(net.recv_exact(self.sock, len(piece)))
                    sender.join()
                self.blocks += 1
        except (OSError, EOFError) as error:
            self.error = error

    def finish(self):
        self.enough.set()
        self.thread.join(scaled(30))
        assert self.error is None, f"after {self.blocks} blocks: {self.error}"
        assert self.blocks > 0 and self.sent.digest() == self.got.digest()
        self.sock.shutdown(socket.SHUT_WR)
        assert self.sock.recv(1) == b""
        self.sock.close()


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return None  # only root may look


class Footprint:
    def __init__(self, serving):
        pid = serving.server.pid
        wait_until(Settled(lambda: descriptors(pid) or 0, 5), 10, "descriptors to settle")
        self.fds = descriptors(pid)
        self.children = len(procs.children(pid))
        wait_until(Settled(lambda: procs.memory_of_one(pid), 5, 1 << 16), 20, "memory to settle")
        self.memory = procs.memory_of_one(pid)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2], ids=lambda n: f"workers{n}")
def test_t42_200_reloads_cut_nothing(configured, client, ssh, targets, sanitized, count):
    """Streams of both clients live through all of them; new sessions come at every step; nothing is left behind."""
    serving = configured(workers=count, policy="return {}")
    ours = client(serving.port)
    program = procs.start_ssh_socks(ssh.keys, ssh.dir, serving.port, "tester")
    ssh.started.append(program)
    streams = [Traffic(net.socks_connect(port, "127.0.0.1", targets.echo)) for port in (ours.port, program.port)]
    reloads = ("reload", "policy.reload", "keys.reload")
    for n in range(200):
        assert serving.call(reloads[n % 3])["generation"] == n + 2
        if n % 10 == 0:
            wire = serving.login()
            echoes(wire, targets)
            wire.close()
        if n == 40:
            two_generations(serving)
            wait_until(lambda: serving.status()["links"] == 2, 20, "the two streams alone")
            before = Footprint(serving)
    two_generations(serving)
    pid = serving.server.pid
    wait_until(lambda: descriptors(pid) is None or descriptors(pid) <= before.fds, 10, f"no more than {before.fds} descriptors")
    after = Footprint(serving)
    assert after.children == before.children
    if not sanitized:
        assert after.memory - before.memory < GROWTH, f"grew from {before.memory} to {after.memory}"
    for stream in streams:
        stream.finish()
    assert program.running() and ours.running()
    assert not ours.lines("reconnect") and not ours.lines("lost")


def two_generations(serving):
    """The one with the streams and the one that serves."""
    wait_until(lambda: len({w["generation"] for w in serving.status()["workers"]}) == 2, 30, "the others to leave")


def test_sessions_have_numbers_of_their_own(configured, workers):
    """Numbers, counters and limits go on; a list has the sessions of all generations."""
    serving = configured(workers=workers, max_sessions=3)
    wires = [serving.login()]
    serving.reload()
    wires.append(serving.login())
    serving.reload()
    wires.append(serving.login())
    sessions = serving.server.sessions()
    assert len({s["id"] for s in sessions}) == 3
    assert serving.status()["links"] == 3
    assert serving.server.metric("alknet_sessions") == 3
    assert serving.server.metric("alknet_sessions_total") == 3
    assert serving.server.metric("alknet_generations") == 3
    with pytest.raises(sshwire.Closed):
        serving.login()
    assert all(map(lives, wires))
    first = min(s["id"] for s in sessions)
    assert serving.call("session.kill", id=first).get("killed", 1) == 1
    assert wires[0].wait_closed() is not None
    wait_until(lambda: serving.server.metric("alknet_sessions") == 2, 10, "the gauge")
    assert lives(wires[1]) and lives(wires[2])
    assert not lives(wires[0])


def test_t42_sighup_storm(configured, targets, workers):
    serving = configured(workers=workers)
    wire = serving.login()
    for _ in range(500):
        serving.server.signal(signal.SIGHUP)
    serving.server.wait_log("msg=reloaded|msg=\"reloaded\"")
    wait_until(Settled(serving.generation, 40), 30, "the storm to be over")
    assert serving.generation() <= 20, "500 signals are a few reloads"
    assert lives(wire)
    echoes(wire, targets)
    echoes(serving.login(), targets)
    wire.close()
    serving.alone()


def test_reloads_that_wait_become_one(configured, workers):
    serving = configured(workers=workers)
    with procs.AdminClient(serving.server.admin) as admin:
        for _ in range(100):
            admin.request("reload")
        answers = [admin.read() for _ in range(100)]
    assert all("result" in a for a in answers), answers
    assert serving.generation() <= 10
    serving.alone()


def test_t42_drain_timeout_ends_old_sessions(configured, workers):
    serving = configured(workers=workers)
    old = serving.login()
    result = serving.reload(drain_timeout=1)
    assert result["links_leaving"] == 1
    new = serving.login()
    assert old.wait_closed(), "it is told why"
    serving.alone()
    assert lives(new)
    assert serving.status()["links"] == 1


def test_t42_shutdown_while_generations_leave(configured, workers):
    serving = configured(workers=workers)
    wires = []
    for _ in range(3):
        wires.append(serving.login())
        serving.call("reload")
    pids = procs.tree(serving.server.pid)
    assert serving.server.stop(10) == 0
    assert all(wire.wait_closed() is not None for wire in wires)
    wait_until(lambda: not any(procs.alive(p) for p in pids), 10, "all workers to be gone")


def test_drain_ends_a_reload(configured, workers):
    """Whoever waits is answered, and the server leaves."""
    serving = configured(workers=workers)
    with procs.AdminClient(serving.server.admin) as admin:
        # In one write, so that the drain comes while the reload has only been asked for.
        admin.send_line(b'{"jsonrpc":"2.0","id":1,"method":"reload"}\n{"jsonrpc":"2.0","id":2,"method":"drain"}')
        answers = {a["id"]: a for a in (admin.read(), admin.read())}
    assert "error" in answers[1] and "leaves" in answers[1]["error"]["message"]
    assert serving.server.wait(10) == 0


def test_generations_are_bounded(configured):
    """A reload that would need a seventeenth generation is refused: nobody is cut to make room."""
    serving = configured(workers=1)
    wires = [serving.login()]
    for _ in range(15):
        serving.call("reload")
        wires.append(serving.login())
    with pytest.raises(procs.AdminError, match="16 generations"):
        serving.call("reload")
    assert serving.generation() == 16
    assert all(map(lives, wires))
    wires[3].close()
    wait_until(lambda: serving.server.metric("alknet_generations") == 15, 10, "one to leave")
    assert serving.call("reload")["generation"] == 17
    assert lives(wires[0]) and lives(serving.login())


def slow_policy():
    """A start that takes long enough to be met in the middle."""
    return "local t = {}\n" + "".join(f"t[{n}] = function(a) return a + {n} end\n" for n in range(14000)) + "return {}\n"


def test_new_worker_dies_before_it_is_ready(configured, targets):
    serving = configured(workers=1, policy="return {}")
    wire = serving.login()
    serving.policy.write_text(slow_policy())
    with procs.AdminClient(serving.server.admin) as admin:
        answer = {"result": None}
        while "result" in answer:  # we came too late
            generation, old = serving.generation(), set(serving.server.workers())
            number = admin.request("reload")
            new = wait_until(lambda old=old: set(serving.server.workers()) - old, 10, "the new worker")
            os.kill(new.pop(), signal.SIGKILL)
            answer = admin.read()
            assert answer["id"] == number
    # Killed while it starts, or before it had its configuration.
    assert re.search(r"signal 9|cannot send a worker its configuration", answer["error"]["message"]), answer
    assert set(serving.server.workers()) == old and serving.generation() == generation
    echoes(wire, targets)
    echoes(serving.login(), targets)
    serving.policy.write_text("return {}")
    serving.reload()


def test_old_worker_dies_during_a_reload(configured, targets):
    serving = configured(workers=1, policy="return {}")
    serving.login()  # so that it does not leave at once
    old = set(serving.server.workers())
    serving.policy.write_text(slow_policy())
    with procs.AdminClient(serving.server.admin) as admin:
        admin.request("reload")
        wait_until(lambda: set(serving.server.workers()) - old, 10, "the new worker")
        os.kill(old.pop(), signal.SIGKILL)
        assert "result" in admin.read()
    echoes(serving.login(), targets)
    serving.alone()
    assert len(serving.server.workers()) == 1


def test_worker_of_an_old_generation_dies(configured, targets):
    """It is not replaced; the generation that serves does not notice."""
    serving = configured(workers=1)
    wire = serving.login()
    old = serving.server.workers()[0]
    serving.reload()
    os.kill(old, signal.SIGKILL)
    serving.alone()
    assert not lives(wire)
    assert serving.status()["links"] == 0
    echoes(serving.login(), targets)


def listening(pid):
    """The inodes of sockets that listen."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}", encoding="ascii") as table:
            inodes |= {line.split()[9] for line in table if line.split()[3] == "0A"}
    return {m[1] for f in procs.open_files(pid) if (m := re.match(r"socket:\[(\d+)\]", f)) and m[1] in inodes}


class Knocking:
    """Connects to a port without a pause; counts what was refused."""

    def __init__(self, port):
        self.port, self.enough, self.refused, self.done = port, threading.Event(), [], 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.enough.wait(0.001):
            try:
                with net.connect(self.port) as sock:
                    assert sock.recv(4) == b"SSH-"
                self.done += 1
            except (OSError, AssertionError) as error:
                self.refused.append(error)

    def finish(self):
        self.enough.set()
        self.thread.join(scaled(30))
        assert self.done > 0 and not self.refused, f"{self.done} were good, then {self.refused[:3]}"


def test_listeners_change(configured, targets, workers):
    """The new one is open before the old one closes; the one that stays is the same socket."""
    second, third = free_port(), free_port()
    serving = configured(workers=workers, listen=["127.0.0.1:0", f"127.0.0.1:{second}"], max_startups="1000:1:2000")
    before = listening(serving.server.pid)
    session = serving.login(port=second)
    knocking = Knocking(serving.port)
    result = serving.reload(listen=["127.0.0.1:0", f"127.0.0.1:{third}"])
    assert [one["address"] for one in result["listeners_opened"]] == [f"127.0.0.1:{third}"]
    assert [one["address"] for one in result["listeners_closed"]] == [f"127.0.0.1:{second}"]
    echoes(serving.login(port=third), targets)
    with pytest.raises(OSError):
        net.connect(second)
    after = listening(serving.server.pid)
    assert len(before & after) == 1 and len(after) == 2
    assert lives(session), "its listener is closed, the session goes on"
    knocking.finish()
    shown = serving.call("listener.list")["listeners"]
    assert {one["address"] for one in shown} == {f"127.0.0.1:{serving.port}", f"127.0.0.1:{third}"}


def test_listener_that_cannot_be_opened(configured, workers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy, good = taken.getsockname()[1], free_port()
        serving = configured(workers=workers)
        wire = serving.login()
        with pytest.raises(procs.AdminError, match=f"127.0.0.1:{busy}.*in use"):
            serving.reload(listen=[f"127.0.0.1:{good}", f"127.0.0.1:{busy}"], max_sessions=1)
    with pytest.raises(OSError):
        net.connect(good)
    assert serving.generation() == 1 and serving.status()["limits"]["max_sessions"] == 0
    assert lives(wire) and lives(serving.login())


def test_options_of_a_listener_that_stays(configured):
    if not shutil.which("ss"):
        pytest.skip("ss is not installed")

    def backlog():
        out = subprocess.run(["ss", "-Hltn", f"sport = :{serving.port}"], check=True, capture_output=True, text=True).stdout
        return int(out.split()[2])

    serving = configured(tcp={"backlog": 11})
    before = listening(serving.server.pid)
    assert backlog() == 11
    assert serving.reload(tcp={"backlog": 23})["restart_needed"] == []
    assert backlog() == 23 and listening(serving.server.pid) == before
    serving.call("keys.reload")
    assert backlog() == 23
    assert lives(serving.login())
