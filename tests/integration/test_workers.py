# SPDX-License-Identifier: MIT OR Apache-2.0
"""Supervisor and workers: crashes, hangs, shutdown, drain, file descriptors, privileges (THREATS 40 to 48)."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import net, procs, sshwire
from harness.configured import echoes, lives
from harness.plugins import build
from harness.waiting import patient, scaled, wait_until



def test_auto_is_one_a_core(server):
    serving = server("--workers", "auto")
    assert len(serving.workers()) == len(os.sched_getaffinity(0))


def test_sessions_are_spread(server, login):
    serving = server(workers=2)
    serving.wait_log("worker started", count=2)
    wires = [login(serving) for _ in range(6)]
    before = len(wires)
    os.kill(serving.workers()[0], signal.SIGKILL)
    wait_until(lambda: sum(map(lives, wires)) < before, 10, "the killed worker's sessions to be gone")
    assert 1 <= sum(map(lives, wires)) <= 5


def test_a_worker_that_dies_is_replaced(server, login, targets):
    """The others' sessions live; it is logged; new sessions are served at once."""
    serving = server(workers=2)
    serving.wait_log("worker started", count=2)
    wires = [login(serving) for _ in range(6)]
    for wire in wires:
        echoes(wire, targets)
    old = serving.workers()
    os.kill(old[0], signal.SIGKILL)
    wait_until(lambda: len(set(serving.workers()) - {old[0]}) == 2, 10, "a new worker")
    wait_until(lambda: not procs.alive(old[0]), 10, "the dead worker to be reaped")
    wait_until(lambda: sum(map(lives, wires)) == 3, 10, "half of the sessions to be gone")
    assert sum(map(lives, wires)) == 3
    for wire in wires:
        if lives(wire):
            echoes(wire, targets, 2)
    assert [line for line in serving.lines(str(old[0])) if "level=error" in line or "level=warn" in line], serving.log()
    for _ in range(4):
        echoes(login(serving), targets)
    wait_until(lambda: serving.call("status"), 5, "the admin socket")


def test_worker_killed_again_and_again(server, login, targets):
    """It is not started in a storm, and the server is not lost."""
    serving = server(workers=1)
    for _ in range(3):
        workers = wait_until(serving.workers, 40, "a worker")
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda w=workers: w[0] not in serving.workers(), 10, "the worker to be gone")
    wait_until(serving.workers, 40, "the worker that stays")
    echoes(login(serving), targets)


def test_supervisor_killed(server):
    """Workers do not outlive their supervisor."""
    serving = server(workers=2)
    workers = serving.workers()
    os.kill(serving.pid, signal.SIGKILL)
    serving.wait()
    wait_until(lambda: not any(procs.alive(pid) for pid in workers), 10, "the workers to leave")
    serving.expected_status = -signal.SIGKILL


HANG_POLICY = """return { on_open = function(session, destination)
  if destination.host == "hang" then return "service", "hang" end
  return "forward"
end }"""


@pytest.fixture
def hanging(server, tmp_path):
    def start(*flags, **options):
        directory = build(tmp_path, "hang")
        conf = "watchdog_timeout = 10, penalty_time = 60"
        return server(
            "--plugin-dir", directory, *flags, policy=HANG_POLICY, conf=conf, env=procs.environment(ALKNET_PLUGIN_DIR=None), **options
        )

    return start


def test_service_plugin_echoes(hanging, login):
    """The service itself is sound where it does not hang."""
    wire = login(hanging(workers=1))
    channel, _ = wire.open_channel(1, "hang", 7)
    wire.data(channel, b"x" * 30000)
    assert wire.read(30000) == b"x" * 30000
    wire.send(bytes([sshwire.EOF]) + sshwire.u32(channel))
    wire.expect(sshwire.EOF)
    wire.send(bytes([sshwire.CLOSE]) + sshwire.u32(channel))
    wire.expect(sshwire.CLOSE)


@pytest.mark.parametrize("port", [1, 2], ids=["open", "data"])
def test_watchdog(hanging, login, keys, targets, port):
    """A hung worker is killed and replaced; the session in hand is named and its identity penalised; others live."""
    serving = hanging(workers=2)
    serving.wait_log("worker started", count=2)
    evil = login(serving, "evil", "user")
    quiet = [login(serving, "good", "user") for _ in range(3)]
    old = set(serving.workers())
    if port == 1:
        evil.open_request(1, "hang", 1)
    else:
        channel, _ = evil.open_channel(1, "hang", 2)
        evil.data(channel, b"hang now")
    evil.wait_closed()
    wait_until(lambda: len(set(serving.workers())) == 2 and set(serving.workers()) != old, 15, "a new worker")
    assert sum(map(lives, quiet)) >= 1, "the other worker's sessions live"
    named = [line for line in serving.log().splitlines() if "127.0.0.1" in line and ("hang" in line or "watchdog" in line or "stuck" in line)]
    assert named, serving.log()
    with pytest.raises((sshwire.Closed, PermissionError)):
        login(serving, "evil", "user")
    assert serving.metric("alknet_penalties_total") >= 1


def test_a_session_that_crashes_its_worker(hanging, login, keys):
    """It is named, and its identity waits."""
    serving = hanging(workers=1)
    evil = login(serving, "evil", "user")
    evil.open_request(1, "hang", 3)
    evil.wait_closed()
    serving.wait_log("worker started", count=2)
    assert serving.lines("worker crashed", "remote_addr=127.0.0.1", f"identity={keys.fingerprint('user')}")
    with pytest.raises((sshwire.Closed, PermissionError)):
        login(serving, "evil", "user")
    assert [row["identity"] for row in serving.call("ban.list")["bans"]] == [keys.fingerprint("user")]


@pytest.fixture
def plain_crashes(monkeypatch):
    """A worker that dies by the signal, with sanitizers too, and not with a report of theirs."""
    monkeypatch.setenv("ASAN_OPTIONS", "handle_segv=0")


@pytest.mark.parametrize("how, exempt", [(signal.SIGSEGV, "none"), (signal.SIGSEGV, "127.0.0.0/8"), (signal.SIGKILL, "none")])
def test_an_address_that_crashes_a_worker(plain_crashes, server, how, exempt):
    """One that was not logged in yet: its address waits, but for a network that is exempt, and not when somebody killed the worker."""
    serving = server("--penalty-exempt", exempt, conf="penalty_time = 60", workers=1)
    wire = sshwire.Wire(serving.port)  # the last that the worker had in hand
    os.kill(serving.workers()[0], how)
    serving.wait_log("worker started", count=2)
    assert bool(serving.lines("worker crashed", "remote_addr=127.0.0.1")) == (how == signal.SIGSEGV)
    blamed = [row["network"] for row in serving.call("ban.list")["bans"]]
    assert blamed == (["127.0.0.1"] if how == signal.SIGSEGV and exempt == "none" else [])
    wire.sock.close()


def test_an_address_that_is_forgiven(plain_crashes, server, login):
    """ban.remove of such a penalty: the workers that heard of it, and the one that is new, let it in again."""
    serving = server("--penalty-exempt", "none", conf="penalty_time = 3600", workers=2)
    wire = sshwire.Wire(serving.port)
    (crashing,) = [row["pid"] for row in serving.call("status")["workers"] if row["links"]]
    os.kill(crashing, signal.SIGSEGV)
    serving.wait_log("worker started", count=3)
    assert [row["network"] for row in serving.call("ban.list")["bans"]] == ["127.0.0.1"]
    assert serving.call("ban.remove", network="127.0.0.1") == {"removed": "127.0.0.1/32"}
    wait_until(lambda: all(row["state"] == "ready" for row in serving.call("status")["workers"]), 20, "both workers to be ready")
    wires = [login(serving) for _ in range(4)]
    assert sorted(row["sessions"] for row in serving.call("status")["workers"]) == [2, 2]
    for one in [wire, *wires]:
        one.sock.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_t42_signal_during_a_transfer(server, client, targets, workers, number):
    """Exit 0 within 3 s, whatever flows."""
    serving = server(workers=workers)
    connecting = client(serving)
    stop = threading.Event()

    def pull():
        try:
            with net.socks_connect(connecting.port, "127.0.0.1", targets.source) as sock:
                sock.sendall(b"%d\n" % (1 << 40))
                while not stop.is_set() and sock.recv(65536):
                    pass
        except OSError:
            pass

    threads = [threading.Thread(target=pull) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: serving.metric("alknet_channel_transmit_bytes_total") > 10_000_000, 20, "the transfers to flow")
    start = time.monotonic()
    serving.signal(number)
    assert serving.wait(10) == 0
    assert time.monotonic() - start < patient(7)
    stop.set()
    for thread in threads:
        thread.join(scaled(20))
    connecting.expected_status = None


def test_t42_second_signal(server, login, targets):
    """A session that would take its time to flush: the second signal ends it at once, and not after the two seconds that the first leaves it."""

    def took():
        serving = server(workers=1)
        wire = login(serving)
        channel, _ = wire.open_channel(1, "127.0.0.1", targets.source, window=1 << 31)
        wire.data(channel, b"%d\n" % (1 << 30))
        wait_until(lambda: serving.metric("alknet_channel_transmit_bytes_total") > 100_000, 10, "the transfer")
        serving.signal(signal.SIGTERM)
        serving.signal(signal.SIGINT)
        start = time.monotonic()
        serving.wait(10)
        serving.expected_status = None
        return time.monotonic() - start

    # What a busy machine takes is not in each of them.
    assert any(took() < 1.5 for _ in range(3))


@pytest.mark.parametrize("role", ["serve", "connect"])
def test_t42_a_signal_that_was_blocked(server, client, role):
    """Whoever starts us with SIGTERM blocked is asked to end by it all the same."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        running = serving = server()
        if role == "connect":
            running = client(serving)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert running.stop() == 0


def test_t42_sighup_storm(server, login, targets):
    """SIGHUP ends nothing."""
    serving = server(workers=1)
    wire = login(serving)
    for _ in range(50):
        for pid in procs.tree(serving.pid):
            try:
                os.kill(pid, signal.SIGHUP)
            except ProcessLookupError:
                # Each reload tries a worker, and the one before it goes when its sessions have.
                assert pid != serving.pid
    echoes(wire, targets)
    echoes(login(serving), targets)


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGCHLD])
def test_t43_signals_that_mean_nothing(server, login, targets, number):
    serving = server(workers=1)
    wire = login(serving)
    for pid in procs.tree(serving.pid):
        os.kill(pid, number)
    echoes(wire, targets)


def limits_of(pid):
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:26].strip(): tuple(line[26:].split()[:2]) for line in lines[1:]}


def test_t43_no_core_no_dump(server, sanitized):
    """No core file, and no other process of the user reads the memory."""
    if sanitized:
        pytest.skip("a sanitizer needs to look into the process itself")
    root = os.geteuid() == 0
    serving = server(*(("--user", "nobody") if root else ()), workers=1)
    for pid in procs.tree(serving.pid):
        assert limits_of(pid)["Max core file size"][0] == "0"
    for pid in serving.workers():
        # The files of a process that may not be dumped belong to root.
        assert os.stat(f"/proc/{pid}/environ").st_uid == 0


def test_t41_no_memory(server, login, targets, keys, sanitized):
    """Sessions that find no memory end; the server goes on and serves when there is some again."""
    if sanitized or not shutil.which("prlimit"):
        pytest.skip("needs prlimit and a build without sanitizers")
    probe = server(workers=1)
    login(probe)
    size = max(int(status_of(pid)["VmSize"].split()[0]) for pid in procs.tree(probe.pid)) * 1024
    limit = size + (5 << 20)
    # libssh may end the worker over it, and then whoever it had in hand has to wait.
    flags = ("--max-startups", "1000:30:1000", "--penalty-time", "1s")
    serving = server(*flags, workers=1, wrap=["prlimit", f"--as={limit}"])
    key = sshwire.load_key(keys.path("user"))
    wires, refused = [], 0
    for _ in range(300):
        wire = None
        try:
            wire = sshwire.Wire(serving.port, timeout=5)
            wire.login(key).open_channel(1, "127.0.0.1", targets.echo)
            wires.append(wire)
        except (sshwire.Closed, PermissionError, AssertionError, OSError):
            refused += 1
            if wire:
                wire.close()
            if refused > 5:
                break
    for wire in wires:
        wire.close()
    assert refused, "the limit was never met"
    assert serving.call("status")

    def served():
        try:
            with sshwire.Wire(serving.port, timeout=5) as wire:  # one that got half way must not keep its memory
                echoes(wire.login(key), targets)
                return True
        except (sshwire.Closed, PermissionError, AssertionError, OSError, EOFError, TypeError, ValueError):
            return False  # memory may still be short for the channel

    wait_until(served, 60, "a session to be served again")


def test_file_descriptor_limit_is_raised(server):
    serving = server(workers=1)
    for pid in procs.tree(serving.pid):
        soft, hard = limits_of(pid)["Max open files"]
        assert soft == hard


def limited(n):
    """argv that runs a program with so many file descriptors."""
    return ["prlimit", f"--nofile={n}:{n}"] if shutil.which("prlimit") else ["sh", "-c", f'ulimit -n {n}; exec "$@"', "sh"]


@pytest.mark.parametrize("count", [0, 1])
def test_t40_file_descriptors_run_out(server, login, targets, count):
    """Accept pauses, is logged, the admin socket answers, and accept goes on."""
    serving = server("--max-startups", "1000:30:1000", workers=count, wrap=limited(40))
    wire = login(serving)
    echoes(wire, targets)
    socks = [net.connect(serving.port) for _ in range(80)]
    try:
        wait_until(lambda: serving.log().count("level=warn") + serving.log().count("level=error") > 0, 20, "a word in the log")
        assert serving.call("status")
        assert lives(wire)
        used = procs.cpu_seconds(serving.pid)
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start > 1, 5, "a second of looking on")
        assert procs.cpu_seconds(serving.pid) - used < 0.3, "it spins on a listener it cannot serve"
        assert len(serving.log().splitlines()) < 300, "logged once a pause"
    finally:
        for sock in socks:
            sock.close()

    def served():
        try:
            with sshwire.Wire(serving.port, timeout=2):
                return True
        except (sshwire.Closed, AssertionError, OSError):
            return False

    wait_until(served, 30, "accept to go on")
    echoes(wire, targets, 2)
    wait_until(lambda: serving.call("status")["links"] == 1, 10, "every other link to be forgotten")


def test_t40_targets_run_out_of_descriptors(server, login, targets):
    """No descriptor for a target: that open fails, and nothing else."""
    serving = server("--max-channels", "1000", workers=1, wrap=limited(50))
    wire = login(serving)
    opened = [wire.open_channel(n, "127.0.0.1", targets.echo) for n in range(60)]
    assert any(opened) and not all(opened)
    alive = next(c for c in opened if c)
    wire.data(alive[0], b"alive")
    assert wire.read(5) == b"alive"


def test_nothing_is_left_open(server, login, targets):
    """Descriptors come back to what they were after sessions with channels have gone."""
    if os.geteuid() != 0:
        pytest.skip("only root can look into processes that leave no core")
    serving = server(workers=1)
    login(serving).close()
    worker = serving.workers()[0]
    wait_until(lambda: serving.metric("alknet_sessions") == 0, 10, "the first session to be gone")

    def files():
        return len(procs.open_files(worker)), len(procs.open_files(serving.pid))

    before = files()
    for _ in range(10):
        wire = login(serving)
        for n in range(10):
            wire.open_channel(n, "127.0.0.1", targets.echo if n % 2 else targets.refused)
        wire.close()
    wait_until(lambda: serving.metric("alknet_sessions") == 0, 10, "the sessions to be gone")
    # The admin connection of the last question may have been open still when they were counted first.
    wait_until(lambda: all(now <= then for now, then in zip(files(), before)), 10, "descriptors to be closed")


def test_t29_silent_client_is_noticed(server, client, targets):
    """Three signs of life unanswered end a session."""
    serving = server("--keepalive", "2", workers=1)
    connecting = client(serving)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        procs.freeze(connecting.pid)
        try:
            wait_until(lambda: serving.metric("alknet_sessions") == 0, 20, "the silent client to be dropped")
        finally:
            connecting.signal(signal.SIGCONT)
    connecting.expected_status = None


def test_keepalive_keeps_a_live_client(server, login, targets):
    """A client that answers stays."""
    serving = server("--keepalive", "5")
    wire = login(serving)
    start = time.monotonic()
    while time.monotonic() - start < 20:
        wire.pump(0.5)
    echoes(wire, targets)


def status_of(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_privileges_are_dropped(server, login, targets, keys, tmp_path):
    """Workers run as `user`, without groups, capabilities and the way back; the supervisor stays."""
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to drop")
    nobody = pwd.getpwnam("nobody")
    serving = server("--user", "nobody", workers=2)
    for pid in serving.workers():
        status = status_of(pid)
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert set(status["Groups"].split()) <= {str(nobody.pw_gid)}
        assert status["NoNewPrivs"].strip() == "1"
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[name], 16) == 0, name
    assert status_of(serving.pid)["Uid"].split()[0] == "0"
    echoes(login(serving), targets)
    old = serving.workers()
    os.kill(old[0], signal.SIGKILL)
    wait_until(lambda: len(set(serving.workers()) - {old[0]}) == 2, 10, "a new worker")
    wait_until(
        lambda: all(status_of(pid)["Uid"].split() == [str(nobody.pw_uid)] * 4 for pid in serving.workers()), 10, "the new worker to drop"
    )


def test_no_new_privileges_without_root_too(server):
    for pid in server(workers=1).workers():
        assert status_of(pid)["NoNewPrivs"].strip() == "1"


def test_workers_have_no_listener(server):
    """A worker inherits nothing of the supervisor's: not the listeners, not the admin socket."""
    if os.geteuid() != 0:
        pytest.skip("only root can look into processes that leave no core")
    serving = server(workers=2)
    listening = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"}
    for pid in serving.workers():
        for name in procs.open_files(pid):
            inode = re.fullmatch(r"socket:\[(\d+)\]", name)
            assert not (inode and inode[1] in listening), f"worker {pid} holds a listener"


def test_t48_plugins_that_do_not_fit(keys, tmp_path):
    """A transport that is no plugin: refused with the reason, status 2."""
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    (plugins / "tcp.so").write_bytes(b"not an ELF file")
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", str(keys.authorized), "--listen", "127.0.0.1:0"]
    argv += ["--admin-socket", "none", "--plugin-dir"]
    for directory in (plugins, tmp_path / "nowhere", Path("relative")):
        out = subprocess.run(
            [*argv, str(directory)], capture_output=True, text=True, timeout=patient(10), env=procs.environment(ALKNET_PLUGIN_DIR=None), check=False
        )
        assert out.returncode == 2, out
        assert "tcp" in out.stderr or "plugin" in out.stderr


def test_t48_a_service_that_does_not_fit_leaves_the_rest(hanging, login, targets, tmp_path):
    """A misfit beside good plugins is told in the log; everything else runs."""
    serving = hanging(workers=1)
    plugins = tmp_path / "plugins"
    serving.stop()
    (plugins / "broken.so").write_bytes(b"\x7fELF nonsense")
    (plugins / "broken.so").chmod(0o755)
    program = procs.Server(serving.argv, tmp_path / "second.log", env=procs.environment(ALKNET_PLUGIN_DIR=None))
    program.admin = serving.admin
    try:
        program.find_port()
        assert program.lines("broken.so")
        echoes(login(program), targets)
    finally:
        program.finish()
