# SPDX-License-Identifier: MIT OR Apache-2.0
"""Another program that takes over (`alknet-admin upgrade`): nobody is refused, no session is cut, and else nothing changes."""

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest

from harness import net, procs, sshwire
from harness.tlscerts import Authority
from harness.waiting import patient, scaled, wait_until

PHRASE = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"


def executable():
    """The program itself, not a script that starts it in the build tree."""
    built = Path(procs.alknet())
    inner = built.parent / ".libs" / built.name
    return inner if inner.exists() else built


class Upgradable:
    """A server whose program is a file of the test's own, and those that follow it."""

    def __init__(self, keys, directory, started, *flags, env=None, workers=1, conf='listen = { "127.0.0.1:0" }'):
        self.dir, self.started, self.keys = directory, started, keys
        self.program = directory / "bin" / "alknet"
        self.program.parent.mkdir()
        self.build = 0
        self.replace()
        self.admin = directory / "admin.sock"
        self.conf = directory / "alknet.conf"
        self.conf_text = f"return {{ {conf} }}\n"
        self.conf.write_text(self.conf_text)
        libraries = os.pathsep.join(p for p in (os.environ.get("ALKNET_LIBDIR"), os.environ.get("LD_LIBRARY_PATH")) if p)
        self.first = procs.Server(
            [self.program, "serve", "--key", keys.path("host"), "--authorized-keys", keys.authorized,
             "--admin-socket", self.admin, "--max-startups", "0:0:0", "--workers", workers, "-c", self.conf, *flags],
            directory / "serve.log", env={**procs.environment(**(env or {})), "LD_LIBRARY_PATH": libraries},
        )
        self.first.admin = self.admin
        self.pids = [self.first.pid]
        started.append(self.first)
        self.first.find_port()
        self.port = self.first.port

    def replace(self):
        """Put another file in the place of the program, as a package manager does."""
        self.build += 1
        fresh = self.program.with_name("alknet.new")
        shutil.copyfile(executable(), fresh)
        with open(fresh, "ab") as file:
            file.write(b"build %d" % self.build)
        fresh.chmod(0o755)
        os.replace(fresh, self.program)

    def call(self, method, **params):
        return self.first.call(method, timeout=40, **params)

    def upgrade(self, **params):
        answer = self.call("upgrade", **params)
        self.pids.append(answer["pid"])
        return answer

    def runs(self, pid):
        """Does this process run what the file is now?"""
        return os.stat(f"/proc/{pid}/exe").st_ino == self.program.stat().st_ino

    def end(self):
        for pid in self.pids[1:]:
            gone = [pid, *procs.tree(pid)] if procs.alive(pid) else []
            if gone:
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda gone=gone: not any(procs.alive(p) for p in gone), 20, "the last program to end")


@pytest.fixture
def upgradable(keys, tmp_path, running_programs):
    made = []

    def start(*flags, **options):
        made.append(Upgradable(keys, tmp_path, running_programs, *flags, **options))
        return made[-1]

    yield start
    for one in made:
        one.end()


class Stream(threading.Thread):
    """A session that sends random bytes to an echo until it is told to stop, and compares all in the end."""

    def __init__(self, wire, port):
        super().__init__()
        self.wire, self.stop, self.rounds, self.error = wire, threading.Event(), 0, None
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.channel = wire.open_channel(1, "127.0.0.1", port, window=0x7FFFFFFF)[0]  # it never adjusts it
        self.start()

    def run(self):
        chance = random.Random(7)
        try:
            while not self.stop.is_set():
                piece = chance.randbytes(20000)
                self.wire.data(self.channel, piece)
                self.sent.update(piece)
                self.received.update(self.wire.read(len(piece)))
                self.rounds += 1
        except Exception as error:  # told by the test
            self.error = error

    def finish(self):
        self.stop.set()
        self.join(scaled(20))
        assert self.error is None
        assert self.sent.digest() == self.received.digest()


class Comer(threading.Thread):
    """A client that connects, logs in, talks and goes, again and again."""

    def __init__(self, port, key, echo, stop):
        super().__init__()
        self.port, self.key, self.echo, self.stop = port, key, echo, stop
        self.rounds, self.error = 0, None
        self.start()

    def run(self):
        try:
            while not self.stop.is_set():
                with sshwire.Wire(self.port) as wire:
                    wire.login(self.key)
                    wire.data(wire.open_channel(1, "127.0.0.1", self.echo)[0], b"hello")
                    assert wire.read(5) == b"hello"
                self.rounds += 1
        except Exception as error:  # told by the test
            self.error = error


def come_on(comers, stream=None):
    """Everybody has come and gone twice since."""
    before = [c.rounds for c in comers]
    streamed = stream.rounds if stream else 0
    wait_until(lambda: any(c.error for c in comers) or all(c.rounds > b + 1 for c, b in zip(comers, before)), 30, "clients to come and go")
    assert not [c.error for c in comers if c.error]
    if stream:
        wait_until(lambda: stream.error or stream.rounds > streamed, 20, "the old session to go on")
        assert stream.error is None


@pytest.mark.parametrize("workers", [0, 1])
def test_an_upgrade_while_clients_come(upgradable, targets, keys, workers):
    """Twice: a program that followed can be followed. Sessions end in the program that they began in."""
    serving = upgradable(workers=workers)
    key, stop = sshwire.load_key(keys.path("user")), threading.Event()
    old = Stream(sshwire.Wire(serving.port).login(key), targets.echo)
    comers = [Comer(serving.port, key, targets.echo, stop) for _ in range(4)]
    try:
        for _ in range(2):
            come_on(comers, old)
            serving.replace()
            assert not serving.runs(serving.pids[-1])
            answer = serving.upgrade()
            assert answer["version"] == serving.call("status")["version"]
            assert serving.call("status")["pid"] == answer["pid"] == serving.pids[-1]
            assert serving.runs(answer["pid"])
            come_on(comers, old)
            assert serving.first.running()  # the old session is in it
    finally:
        stop.set()
        for comer in comers:
            comer.join(scaled(20))
        old.stop.set()
    assert not [c.error for c in comers if c.error]
    wait_until(lambda: not procs.alive(serving.pids[1]), 20, "the program between to end: it has no session")
    old.finish()
    old.wire.close()
    assert serving.first.wait() == 0
    with sshwire.Wire(serving.port) as wire:
        wire.login(key)
    assert serving.call("status")["pid"] == serving.pids[2]


@pytest.mark.parametrize("wrong", ["missing", "not executable", "no program", "written by others", "bad configuration", "an earlier program"])
def test_what_cannot_follow_changes_nothing(upgradable, targets, keys, wrong):
    serving = upgradable()
    stream = Stream(sshwire.Wire(serving.port).login(sshwire.load_key(keys.path("user"))), targets.echo)
    socket_before = os.stat(serving.admin).st_ino
    if wrong == "missing":
        serving.program.unlink()
        expected = "No such file"
    elif wrong == "not executable":
        serving.replace()
        serving.program.chmod(0o644)
        expected = "cannot be executed"
    elif wrong == "no program":
        serving.program.unlink()
        serving.program.write_text("this is no program\n")
        serving.program.chmod(0o755)
        expected = "Exec format error"
    elif wrong == "written by others":
        serving.program.chmod(0o757)
        expected = "may be written by others"
    elif wrong == "bad configuration":
        serving.conf.write_text("return { nonsense = 1 }\n")
        expected = "the new program says: .*nonsense"
    else:  # one that knows nothing of all this
        serving.program.unlink()
        serving.program.write_text("#!/bin/sh\nexit 2\n")
        serving.program.chmod(0o755)
        expected = "ended before it was ready"
    with pytest.raises(procs.AdminError, match=expected):
        serving.call("upgrade")
    assert serving.call("status")["pid"] == serving.first.pid
    assert os.stat(serving.admin).st_ino == socket_before
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
    # Mended, it goes.
    serving.conf.write_text(serving.conf_text)
    serving.replace()
    assert serving.upgrade()["links_leaving"] >= 1
    stream.finish()
    stream.wire.close()
    assert serving.first.wait() == 0
    assert os.stat(serving.admin).st_ino == socket_before
    assert serving.call("status")["pid"] == serving.pids[-1]


def test_a_new_program_that_does_not_come_up(upgradable):
    """Workers that cannot start are a reason, too."""
    serving = upgradable()
    policy = serving.dir / "policy.lua"
    policy.write_text("nonsense(\n")
    serving.conf.write_text(f'return {{ policy = "{policy}", listen = {{ "127.0.0.1:0" }} }}\n')
    with pytest.raises(procs.AdminError, match=r"the new program says: .*policy\.lua"):
        serving.call("upgrade")
    assert serving.call("status")["state"] == "running"


def test_all_sockets_go_over(upgradable, keys, tmp_path):
    """Metrics on a port that the kernel chose, the bus's socket, admin: each is never without a listener."""
    path = tmp_path / "bus.sock"
    conf = f'listen = {{ "127.0.0.1:0", "127.0.0.1:0" }}, bus = {{ listen = "unix:{path}" }}'
    serving = upgradable("--metrics-listen", "127.0.0.1:0", conf=conf)
    listening = serving.call("listener.list")["listeners"]
    metrics = serving.first.wait_log(r"metrics served.* address=127\.0\.0\.1:(\d+)").group(1)
    before = os.stat(path).st_ino
    serving.replace()
    serving.upgrade()
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/readyz", timeout=patient(10)) as answer:
        assert answer.status == 200
    assert os.stat(path).st_ino == before and stat.S_ISSOCK(os.stat(path).st_mode)
    with socket.socket(socket.AF_UNIX) as local:
        local.settimeout(patient(10))
        local.connect(str(path))
    assert serving.first.wait() == 0
    assert os.stat(path).st_ino == before
    assert [one["address"] for one in serving.call("listener.list")["listeners"]] == [one["address"] for one in listening]
    assert len(set(serving.first.lines("metrics served"))) == 1


def test_a_seed_is_not_lost_unasked(upgradable):
    serving = upgradable()
    serving.call("secret.unlock", mnemonic=PHRASE)
    with pytest.raises(procs.AdminError, match="secret service is unlocked"):
        serving.call("upgrade")
    assert serving.call("secret.status")["unlocked"]
    done = subprocess.run(
        [procs.alknet_admin(), "--socket", serving.admin, "--json", "upgrade", "--force"], capture_output=True, text=True,
        timeout=scaled(40), env=procs.environment())
    assert done.returncode == 0, done.stderr
    serving.pids.append(serving.call("status")["pid"])
    assert serving.pids[1] != serving.pids[0]
    assert not serving.call("secret.status")["unlocked"]
    assert serving.first.wait() == 0


def test_a_link_that_waits_for_its_header(upgradable, keys):
    """Accepted by the old program, whose PROXY header comes only after the new one serves."""
    serving = upgradable(conf='listen = { { address = "127.0.0.1:0", proxy_protocol = true, proxy_from = { "127.0.0.0/8" } } }')
    wire = sshwire.Wire(serving.port, start=False)
    wait_until(lambda: serving.call("listener.list")["listeners"][0]["accepted"] == 1, 10, "the link to be accepted")
    serving.replace()
    serving.upgrade()
    wire.raw(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton("203.0.113.9") + socket.inet_aton("127.0.0.1") + b"\x03\xe8\0\x16")
    wire.hello()
    wire.exchange_keys()
    wire.login(sshwire.load_key(keys.path("user")))
    assert serving.first.lines("connection opened", "203.0.113.9")
    wire.close()
    assert serving.first.wait() == 0


def test_links_that_wait_their_turn(upgradable):
    """Who was accepted and waits for max_handshakes is served by the old program before it leaves."""
    serving = upgradable("--max-handshakes", "2")
    socks = [net.connect(serving.port) for _ in range(50)]
    wait_until(lambda: serving.call("status")["waiting"] >= 3, 10, "some to wait")
    serving.upgrade()
    for sock in socks[30:]:
        sock.close()  # these were there for a slow machine to come in time
    for sock in socks[:30]:
        assert net.recv_exact(sock, 8) == b"SSH-2.0-"
        sock.close()
    assert serving.first.wait(20) == 0
    with net.connect(serving.port) as sock:
        assert net.recv_exact(sock, 8) == b"SSH-2.0-"


def test_tls_goes_over(upgradable, client, targets, tmp_path):
    """The port with its new certificate; handshakes that are under way and sessions that are there end where they began; nobody is refused."""
    if not shutil.which("openssl") or not os.path.exists(os.path.join(procs.plugin_dir(), "tls.so")):
        pytest.skip("needs openssl and the tls transport")
    (tmp_path / "ca").mkdir()
    authority = Authority(tmp_path / "ca")
    for name in ("one", "two"):
        authority.issue(name, "tunnel.example", "DNS:tunnel.example,IP:127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "cert.key"

    def use(name):
        for place, kind in ((cert, "pem"), (key, "key")):
            fresh = place.with_suffix(".new")
            shutil.copyfile(authority.path(f"{name}.{kind}"), fresh)
            fresh.chmod(0o600)
            os.replace(fresh, place)

    def shown():
        context = ssl.create_default_context(cafile=authority.path("ca.pem"))
        with socket.create_connection(("127.0.0.1", serving.port), scaled(20)) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            assert tls.recv(4) == b"SSH-"
            return tls.getpeercert()["serialNumber"]

    use("one")
    serving = upgradable("--transport", "tls", "--tls-cert", cert, "--tls-key", key)
    before, stop, failed, seen = shown(), threading.Event(), [], []

    def come():
        while not stop.is_set():
            try:
                seen.append(shown())
            except Exception as error:  # told by the test
                failed.append(error)
                return

    def more():
        many = len(seen)
        wait_until(lambda: failed or len(seen) > many + 8, 20, "clients to come")
        assert not failed

    tunnel = client(serving.first, "--transport", "tls", env=procs.environment(SSL_CERT_FILE=authority.path("ca.pem")))
    comers = [threading.Thread(target=come) for _ in range(3)]
    for comer in comers:
        comer.start()
    try:
        more()
        early = socket.create_connection(("127.0.0.1", serving.port), scaled(20))
        wait_until(lambda: sum(one["accepted"] for one in serving.call("listener.list")["listeners"]) > len(seen) + 1, 10, "the early one to be accepted")
        with net.socks_connect(tunnel.port, "127.0.0.1", targets.echo) as sock:
            use("two")
            serving.replace()
            serving.upgrade()
            more()
            assert shown() != before
            net.ask_echo(sock)
            assert serving.first.running()
        context = ssl.create_default_context(cafile=authority.path("ca.pem"))
        with context.wrap_socket(early, server_hostname="127.0.0.1") as late:
            assert late.recv(4) == b"SSH-"
    finally:
        stop.set()
        for comer in comers:
            comer.join()
    assert not failed and set(seen) == {before, shown()}
    tunnel.stop()
    assert serving.first.wait() == 0


class Listening:
    """The end of NOTIFY_SOCKET, which knows who speaks as systemd does."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.settimeout(scaled(20))
        self.sock.bind(str(path))
        self.heard = []

    def hear(self, word):
        """Up to the next message that has it; gives who said it."""
        while True:
            text, more, _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(12))
            pid = struct.unpack("iII", more[0][2])[0]
            self.heard.append((pid, text.decode().split("\n")))
            if any(re.fullmatch(word, line) for line in self.heard[-1][1]):
                return pid


def test_the_service_manager_hears_of_it(upgradable, tmp_path):
    """The old program names the new one and says no more: STOPPING would end the service. The new one is silent until then, and soon
    tells its own status."""
    manager = Listening(tmp_path / "notify.sock")
    with manager.sock:
        serving = upgradable(env={"NOTIFY_SOCKET": str(tmp_path / "notify.sock"), "WATCHDOG_USEC": "10000000"})
        manager.hear("WATCHDOG=1")
        assert manager.hear("READY=1") == serving.first.pid
        serving.replace()
        pid = serving.upgrade()["pid"]
        assert serving.first.wait() == 0
        assert manager.hear(f"MAINPID={pid}") == serving.first.pid
        assert all(who == serving.first.pid or any("WATCHDOG" in line for line in lines) for who, lines in manager.heard)
        assert manager.hear("WATCHDOG=1") == pid
        assert manager.hear("STATUS=0 sessions") == pid
        os.kill(pid, signal.SIGTERM)
        assert manager.hear("STOPPING=1") == pid
        assert sum("STOPPING=1" in lines for _, lines in manager.heard) == 1
        assert sum("READY=1" in lines for _, lines in manager.heard) == 2
