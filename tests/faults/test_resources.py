# SPDX-License-Identifier: MIT OR Apache-2.0
"""Descriptors, memory and disk that run out under load (T40, T41, T45): what is refused is refused alone, and it comes back."""

import contextlib
import os
import re
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import finish_all
from harness import net, procs, sshwire
from harness.load import Load
from harness.waiting import Settled, scaled, wait_until

LINE = re.compile(r'level=\w+ msg="[^"]*"( \w+=("[^"]*"|[^\s"]*))*')


def fds(pid):
    wait_until(Settled(lambda: len(procs.open_files(pid)), 5), 20, "descriptors to settle")
    return len(procs.open_files(pid))


@pytest.mark.parametrize("end", ["serve", "connect"])
def test_t40_descriptors_run_out_under_load(server, client, targets, root, end):
    """EMFILE at either end while streams flow: none of them has a byte less, what is over is refused, and when descriptors are free again
    everything is as before."""
    serving = server("--max-channels", "1000", workers=1)
    connecting = client(serving)
    load = Load(connecting.port, targets)
    load.go_on()
    pid = serving.workers()[0] if end == "serve" else connecting.pid
    load.stop()
    before = fds(pid)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as kept:
        old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (before + 12, old[1]))
        held, refused = [], 0
        # One that is only late is none that was refused for want of descriptors.
        for _ in range(60):
            try:
                held.append(net.socks_connect(connecting.port, "127.0.0.1", targets.echo, timeout=0.5))
                held[-1].settimeout(scaled(30))
            except (OSError, EOFError, net.ProxyRefused):
                refused += 1
            if refused > 3 and held:
                break
        assert refused and held, (refused, len(held))
        noise = os.urandom(1 << 20)
        for at in range(0, len(noise), 1 << 14):
            net.ask_echo(kept, noise[at : at + (1 << 14)])
        for sock in held:
            net.ask_echo(sock)
        used = procs.cpu_seconds(pid)
        for _ in range(100):
            net.ask_echo(kept)
        assert procs.cpu_seconds(pid) - used < 2, "it spins"
        for sock in held:
            sock.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    load = Load(connecting.port, targets)
    load.go_on()
    assert load.stop() == 0, load.cut
    assert not connecting.lines("the session ended")
    wait_until(lambda: serving.metric("alknet_channels") == 0, 20, "the channels to be gone")
    wait_until(lambda: fds(pid) <= before, 20, "descriptors to be closed")


def test_t41_no_memory_under_load(server, client, login, targets, root, sanitized):
    """A worker that finds no memory ends sessions, or itself; nobody reads a wrong byte, the other worker's sessions go on, and with memory
    again everybody is served."""
    if sanitized:
        pytest.skip("a sanitizer's memory is mapped at the start")
    # libssh may end the worker over it, and then whoever it had in hand has to wait.
    serving = server("--max-startups", "1000:30:1000", "--penalty-time", "1s", workers=2)
    ends = [client(serving) for _ in range(2)]
    loads = [Load(one.port, targets) for one in ends]
    for load in loads:
        load.go_on()
    poor = serving.workers()[0]
    rich = {one["pid"]: one["sessions"] for one in serving.call("status")["workers"] if one["pid"] != poor}
    size = int(next(line for line in Path(f"/proc/{poor}/status").read_text().splitlines() if line.startswith("VmSize")).split()[1]) << 10
    old = resource.prlimit(poor, resource.RLIMIT_AS)
    resource.prlimit(poor, resource.RLIMIT_AS, (size + (1 << 20), old[1]))
    wires, refused = [], 0
    for _ in range(400):
        try:
            wires.append(login(serving))
            wires[-1].open_channel(1, "127.0.0.1", targets.echo)
        except (sshwire.Closed, PermissionError, OSError):
            refused += 1
        if refused > 3 or not procs.alive(poor):
            break
    assert refused or not procs.alive(poor), "memory never ran out"
    assert serving.call("status")
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(poor, resource.RLIMIT_AS, old)
    for wire in wires:
        wire.close()
    wait_until(lambda: len(serving.workers()) == 2, 20, "two workers")
    # A client that was refused meanwhile comes again after a minute.
    wait_until(lambda: serving.metric("alknet_sessions_authenticated") == 2, 120, "the sessions to be as before")
    for load in loads:
        load.go_on()
    cut = [load.stop() for load in loads]
    ended = [len(one.lines("alknet: the session ended:")) for one in ends]
    # Where the session stood channels alone may have been refused.
    assert sum(1 for c in cut if c) <= len(ends) - sum(rich.values()) or not sum(rich.values()), (cut, ended, rich)


class Disk:
    """A small file system that the program alone sees; we reach it through /proc."""

    def __init__(self, directory, kilobytes=4096):
        self.fds = []
        self.mount = directory / "disk"
        self.mount.mkdir()
        self.before = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
        self.before += [f'mount -t tmpfs -o size={kilobytes}k tmpfs "$0" && exec "$@"', str(self.mount)]
        made = subprocess.run([*self.before, "true"], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"no mount namespace or tmpfs here: {made.stderr.strip()}")

    def logging(self):
        """Before a program whose stderr is to be on the disk."""
        return [*self.before, "sh", "-c", 'exec "$@" 2>>"$0/log"', str(self.mount)]

    def inside(self, program, name):
        return Path(f"/proc/{program.pid}/root{self.mount}") / name

    def hold_log(self, program):
        """The file is gone with the program, so we keep it open."""
        log = self.inside(program, "log")
        wait_until(log.exists, 20, "the log")
        self.fds.append(os.open(log, os.O_RDONLY))
        program.log_path = Path(f"/proc/self/fd/{self.fds[-1]}")

    def fill(self, program):
        with open(self.inside(program, "fill"), "ab", buffering=0) as out, contextlib.suppress(OSError):
            while out.write(bytes(512)):
                pass

    def free(self, program):
        self.inside(program, "fill").unlink()

    def close(self):
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def disk(root, tmp_path, running_programs):
    made = Disk(tmp_path)
    yield made
    finish_all(running_programs)
    running_programs.clear()
    made.close()


def floods(serving):
    """A few lines of log."""
    for _ in range(50):
        net.connect(serving.port).close()


def test_t45_log_on_a_full_disk(server, client, targets, disk):
    """Streams go on, logins too; what could not be written waits, then is counted, and when there is room again that is told. No
    line is torn."""
    serving = server("--max-startups", "1000:30:1000", workers=1, wrap=disk.logging(), wait=False)
    disk.hold_log(serving)
    serving.find_port()
    load = Load(client(serving).port, targets)
    load.go_on()
    disk.fill(serving)
    written = serving.log_path.stat().st_size

    def dropped():
        floods(serving)
        return serving.metric("alknet_log_dropped_total") > 10

    wait_until(dropped, 40, "lines to be dropped")
    assert serving.log_path.stat().st_size <= written + 4096
    load.go_on()
    one = client(serving, "--stdio", f"127.0.0.1:{targets.echo}", socks5=None, wait=False)
    assert one.wait(20) == 0, one.log()
    disk.free(serving)

    def told():
        floods(serving)
        return serving.lines('msg="log lines dropped"')

    wait_until(told, 20, "how many lines were dropped")
    assert load.stop() == 0, load.cut
    torn = [line for line in serving.log().splitlines() if not LINE.fullmatch(line)]
    assert not torn, torn[:3]


def test_state_on_a_full_disk(server, client, disk):
    """A client that cannot remember a host key says so and goes no further; no half line is left behind."""
    hosts = disk.mount / "known_hosts"
    full = [*disk.before, "sh", "-c", 'head -c 8M /dev/zero >"$0/fill" 2>/dev/null; "$@"; status=$?; wc -c <"$0/known_hosts"; exit $status', str(disk.mount)]
    connecting = client(server(workers=1), "--known-hosts", hosts, "--accept-new-host-key", wrap=full, wait=False, known=False)
    connecting.expected_status = 1
    assert connecting.wait(20) == 1
    assert connecting.lines("cannot add the host key to known_hosts", "No space left on device")
    assert connecting.log().splitlines()[-1] == "0", connecting.log()


def test_reload_on_a_full_disk(server, client, targets, disk):
    """A reload writes nothing: it works where there is no room."""
    serving = server(workers=1, wrap=disk.logging(), wait=False)
    disk.hold_log(serving)
    serving.find_port()
    load = Load(client(serving).port, targets)
    load.go_on()
    disk.fill(serving)
    serving.signal(signal.SIGHUP)
    wait_until(lambda: serving.metric("alknet_reloads_total") == 1, 20, "the reload")
    load.go_on()
    assert load.stop() == 0, load.cut
