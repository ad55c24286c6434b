# SPDX-License-Identifier: MIT OR Apache-2.0
"""Under a service manager: what it is told, its watchdog, sockets that it opened, the units in conf/systemd."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from harness import net, procs, sshwire
from harness.waiting import scaled, wait_until

SOURCE = Path(os.environ.get("ALKNET_SRCDIR", Path(__file__).resolve().parents[2]))


class Manager:
    """The end of NOTIFY_SOCKET."""

    def __init__(self, directory):
        self.path = directory / "notify.sock"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(self.path))
        self.sock.settimeout(scaled(20))
        self.heard = []

    def hear(self, wanted):
        """The next message that has this line."""
        while True:
            lines = self.sock.recv(4096).decode().split("\n")
            self.heard.append(lines)
            if any(re.fullmatch(wanted, line) for line in lines):
                return lines


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path)
    yield made
    made.sock.close()


def environment(manager, **more):
    return procs.environment(NOTIFY_SOCKET=str(manager.path), **more)


def test_the_server_tells_its_life(server, manager, login, workers):
    serving = server(workers=workers, env=environment(manager))
    assert manager.hear("READY=1") == ["READY=1", "STATUS=0 sessions"]
    wire = login(serving)
    manager.hear("STATUS=1 sessions")
    serving.call("reload")
    assert re.match(r"MONOTONIC_USEC=\d+", manager.hear("RELOADING=1")[1])
    manager.hear("READY=1")
    serving.call("drain")
    assert "STATUS=draining: 1 sessions" in manager.hear("STOPPING=1")
    wire.close()
    assert serving.wait() == 0
    assert not any("WATCHDOG=1" in lines for lines in manager.heard)


def test_a_reload_that_fails_ends_too(configured, manager):
    running = configured(env=environment(manager))
    manager.hear("READY=1")
    running.conf.write_text("return { nonsense = 1 }\n")
    with pytest.raises(procs.AdminError):
        running.call("reload")
    manager.hear("RELOADING=1")
    manager.hear("READY=1")
    running.write()


def test_stopping_is_the_last_word(server, manager):
    """A reload that the end of the server cuts short is not told as one that ended: READY=1 would say that it runs."""
    serving = server(workers=2, env=environment(manager))
    manager.hear("READY=1")
    os.kill(serving.pid, signal.SIGHUP)
    manager.hear("RELOADING=1")
    os.kill(serving.pid, signal.SIGTERM)
    manager.hear("STOPPING=1")
    assert serving.wait(20) == 0
    manager.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.hear("READY=1")


def test_watchdog(server, client, manager):
    """Twice in the time, while the loop runs; not when it does not; and nobody else's."""
    serving = server(env=environment(manager, WATCHDOG_USEC="400000"))
    for _ in range(3):
        manager.hear("WATCHDOG=1")
    procs.freeze(serving.pid)
    manager.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        while True:
            manager.sock.recv(4096)
    manager.sock.settimeout(scaled(20))
    serving.signal(signal.SIGCONT)
    manager.hear("WATCHDOG=1")
    for worker in serving.workers():
        held = Path(f"/proc/{worker}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in held and b"WATCHDOG" not in held


def test_a_watchdog_of_another_process(server, manager):
    serving = server(env=environment(manager, WATCHDOG_USEC="1000", WATCHDOG_PID="1"))
    serving.call("reload")
    manager.hear("RELOADING=1")
    assert not any("WATCHDOG=1" in lines for lines in manager.heard)


def test_the_client(server, client, manager):
    serving = server()
    connecting = client(serving, env=environment(manager))
    assert manager.hear("READY=1") == ["READY=1", f"STATUS=connected to 127.0.0.1:{serving.port}"]
    connecting.stop()
    manager.hear("STOPPING=1")


class Activated:
    """A listening socket that outlives servers."""

    def __init__(self, keys, directory, started, address="127.0.0.1"):
        self.keys, self.dir, self.started = keys, directory, started
        self.sock = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.port = self.sock.getsockname()[1]

    def start(self, listen, name="ssh", fds=1, pid="$$", number=0):
        fd = self.sock.fileno()
        script = f'export LISTEN_PID={pid} LISTEN_FDS={fds} LISTEN_FDNAMES={name}; exec "$0" "$@" 3<&{fd}'
        argv = [
            "bash", "-c", script, procs.alknet(), "serve", "--key", self.keys.path("host"), "--authorized-keys", self.keys.authorized,
            "--listen", listen, "--admin-socket", self.dir / f"admin{number}.sock",
        ]
        running = procs.Server(argv, self.dir / f"serve{number}.log", pass_fds=(fd,))
        running.admin = self.dir / f"admin{number}.sock"
        self.started.append(running)
        return running


@pytest.fixture
def activated(keys, tmp_path, running_programs):
    made = Activated(keys, tmp_path, running_programs)
    yield made
    made.sock.close()


@pytest.mark.parametrize("by", ["name", "address"])
def test_a_socket_that_was_opened_before(activated, by, keys, targets):
    """By its name, or by the address that the configuration has; the same socket, not one beside it."""
    running = activated.start("fd:ssh" if by == "name" else f"127.0.0.1:{activated.port}")
    running.find_port()
    assert running.port == activated.port
    wire = sshwire.Wire(activated.port).login(sshwire.load_key(keys.path("user")))
    assert wire.open_channel(1, "127.0.0.1", targets.echo)
    wire.close()
    for worker in running.workers():
        assert b"LISTEN_" not in Path(f"/proc/{worker}/environ").read_bytes()


@pytest.mark.parametrize("listen, more, word", [
    ("fd:other", {}, "fd:other"), ("fd:ssh", {"pid": 1}, "LISTEN_FDNAMES"), ("fd:ssh", {"fds": 0}, "LISTEN_FDNAMES"),
])
def test_a_socket_that_is_not_there(activated, listen, more, word):
    running = activated.start(listen, **more)
    running.expected_status = 2
    assert running.wait() == 2 and word in running.log()


def test_a_socket_that_nobody_listens_on(activated):
    running = activated.start("127.0.0.1:0", name="http")
    running.find_port()
    assert running.lines("inherited socket is not listened on", "name=http", f"port={activated.port}")
    assert running.port != activated.port


def test_replaced_without_a_refused_connection(activated, keys):
    """While clients connect in a loop the server is ended and another one started, three times: each gets a banner."""
    stop, failed, done = threading.Event(), [], [0]

    def connect():
        while not stop.is_set():
            try:
                with net.connect(activated.port) as sock:
                    if net.recv_exact(sock, 4) == b"SSH-":
                        done[0] += 1
            except ConnectionRefusedError as error:
                failed.append(error)
            except (OSError, EOFError, AssertionError):
                pass  # accepted by the one that was ended: a restart cuts what is there

    running = activated.start("fd:ssh")
    running.find_port()
    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 4):
            before = done[0]
            wait_until(lambda before=before: done[0] > before + 20, 30, "connections")
            assert running.stop() == 0
            running = activated.start("fd:ssh", number=number)
        before = done[0]
        wait_until(lambda: done[0] > before + 20, 30, "connections to the last one")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed


def reaches(port):
    try:
        net.connect(port).close()
    except ConnectionRefusedError:
        return False
    return True


def test_sigterm_with_a_deadline(server, login, targets):
    """shutdown_timeout: sessions go on, new ones are not taken; what is still there then is ended."""
    serving = server(conf='shutdown_timeout = "1h",')
    wire = login(serving)
    serving.signal(signal.SIGTERM)
    serving.wait_log("draining")
    assert wire.open_channel(1, "127.0.0.1", targets.echo)
    wait_until(lambda: not reaches(serving.port), 10, "it to take no more")
    wire.close()
    assert serving.wait() == 0
    serving = server(conf='shutdown_timeout = "1s",')
    wire = login(serving)
    serving.signal(signal.SIGTERM)
    assert "the server stops" in str(wire.wait_closed())
    assert serving.wait() == 0


def test_a_second_signal_does_not_wait(server, login):
    serving = server(conf='shutdown_timeout = "1h",')
    login(serving)
    serving.signal(signal.SIGTERM)
    serving.wait_log("draining")
    serving.signal(signal.SIGTERM)
    assert serving.wait() == 0


# The units


@pytest.fixture
def units(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for file in (SOURCE / "conf/systemd").iterdir():
        text = file.read_text()
        text = text.replace("/usr/bin/alknet-admin", str(procs.alknet_admin())).replace("/usr/bin/alknet ", f"{procs.alknet()} ")
        (tmp_path / file.name.replace("@.", "@work.")).write_text(re.sub("^Documentation=.*", "", text, flags=re.M))
    return tmp_path


def analyze(*words):
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=scaled(60), check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "SYSTEMD_PAGER": "", "LC_ALL": "C"},
    )


def test_verify(units):
    files = [str(units / name) for name in ("alknet.service", "alknet.socket", "alknet-connect@work.service")]
    done = analyze("verify", "--man=no", *files)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "alknet" in line]
    assert done.returncode == 0 and not ours, ours


@pytest.mark.parametrize("unit, most", [("alknet.service", 20), ("alknet-connect@work.service", 20)])
def test_security(units, unit, most):
    """Exposure in tenths, as systemd counts it: 2.0 is OK, 10 is a service that says nothing."""
    done = analyze("security", "--offline=true", f"--threshold={most}", str(units / unit))
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def journal_fields(datagram):
    """What journald makes of it (systemd's "Native Journal Protocol")."""
    fields, rest = {}, datagram
    while rest:
        line, rest = rest.split(b"\n", 1)
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8:8 + size], rest[8 + size:]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name) and name not in fields
        fields[name.decode()] = value.decode()
    return fields


class Journal(threading.Thread):
    """journald's socket."""

    def __init__(self, path):
        super().__init__()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.heard = []
        self.start()

    def run(self):
        while datagram := self.sock.recv(1 << 16):
            self.heard.append(journal_fields(datagram))

    def find(self, **wanted):
        return next((one for one in self.heard if wanted.items() <= one.items()), None)

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.sock.getsockname())
        self.join()
        self.sock.close()


def test_the_journal_hears_fields(server, tmp_path, login):
    """From the supervisor and from a worker in its sandbox; a name with a line's end forges nothing."""
    path = tmp_path / "journal.sock"
    journal = Journal(path)
    try:
        serving = server("--log-target", "journal", workers=1, env=procs.environment(ALKNET_JOURNAL_SOCKET=str(path)), wait=False)
        listening = wait_until(lambda: journal.find(ALKNET_MSG="listening"), 20, "the server to listen")
        assert listening["PRIORITY"] == "6" and listening["SYSLOG_IDENTIFIER"] == "alknet"
        serving.port = int(listening["ALKNET_ADDRESS"].rsplit(":", 1)[1])
        name = "x\nPRIORITY=0\nMESSAGE=forged"
        with pytest.raises(PermissionError):
            login(serving, user=name)
        attempt = wait_until(lambda: journal.find(ALKNET_MSG="auth attempt"), 20, "the login")
        assert attempt["ALKNET_USER"] == name and attempt["ALKNET_RESULT"] == "reject"
        assert attempt["ALKNET_REMOTE_ADDR"] == "127.0.0.1"
        assert attempt["MESSAGE"].startswith('level=info msg="auth attempt" remote_addr=127.0.0.1 user="x\\x0aPRIORITY=0')
        assert not serving.log()
        # journald is started anew.
        journal.close()
        path.unlink()
        journal = Journal(path)
        login(serving).close()
        wait_until(lambda: journal.find(ALKNET_MSG="auth attempt", ALKNET_USER="tester"), 20, "the next login")
    finally:
        journal.close()


def test_no_journal_is_an_error(server, tmp_path):
    serving = server("--log-target", "journal", env=procs.environment(ALKNET_JOURNAL_SOCKET=str(tmp_path / "none")), wait=False)
    serving.expected_status = 2
    assert serving.wait() == 2
    assert "cannot reach the journal at" in serving.log()
