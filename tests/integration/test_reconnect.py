# SPDX-License-Identifier: MIT OR Apache-2.0
"""alknet connect keeps a session: what it does when one ends."""

import os
import signal
import socket
import threading
import time

import pytest

from harness import net, procs
from harness.waiting import patient, scaled, wait_until

ENDED = r"alknet: the session ended: "
AGAIN = r"alknet: connected to 127\.0\.0\.1:\d+ again after "


class Restartable:
    """A server that comes back on the same port: alknet, or sshd."""

    def __init__(self, kind, server, sshd, tmp_path, running_programs):
        self.kind, self.server, self.tmp_path, self.programs = kind, server, tmp_path, running_programs
        self.running = server(listen=f"127.0.0.1:{net.free_port()}") if kind == "alknet" else sshd()
        self.port = self.running.port
        self.user = getattr(self.running, "user", "tester")

    def stop(self):
        if self.kind == "alknet":
            self.running.stop()
        else:
            self.running.kill()

    def start(self, **options):
        if self.kind == "alknet":
            self.running = self.server(listen=f"127.0.0.1:{self.port}", **options)
            return
        again = procs.Program(self.running.argv, self.tmp_path / f"sshd-again{len(self.programs)}.log")
        self.programs.append(again)
        self.running = again


@pytest.fixture(params=["alknet", "sshd"])
def restartable(request, server, tmp_path, running_programs):
    return Restartable(request.param, server, request.getfixturevalue("sshd"), tmp_path, running_programs)


def ask(connecting, targets):
    """An application waits for ten seconds; on a machine that stalls a session may come later."""

    def answered():
        begun = time.monotonic()
        try:
            with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
                net.ask_echo(sock)
            return True
        except net.ProxyRefused:
            if time.monotonic() - begun < 9.5:
                raise
            return False

    wait_until(answered, 30, "a session")


def test_a_server_that_comes_back(restartable, client, targets):
    """The listeners stay, and each change is one line."""
    connecting = client(restartable, "--forward", f"0:127.0.0.1:{targets.echo}", user=restartable.user)
    port = connecting.forward_port()
    for times in (1, 2):
        with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
            net.ask_echo(sock)
            restartable.stop()
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
        connecting.wait_log(ENDED, count=times)
        restartable.start()
        ask(connecting, targets)
        with net.connect(port) as sock:
            net.ask_echo(sock)
        assert len(connecting.lines("again after")) == times
    assert len(connecting.lines("the session ended")) == 2
    assert len(connecting.lines("SOCKS5 and HTTP proxy on")) == 1


def test_a_connection_waits_for_the_session(restartable, client, targets):
    """What was asked for during the outage gets its answer after it."""
    connecting = client(restartable, user=restartable.user)
    answers = []

    def wait_for_it():
        begun = time.monotonic()
        try:
            with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
                net.ask_echo(sock)
                answers.append("asked")
        except net.ProxyRefused:
            answers.append("late" if time.monotonic() - begun > 9.5 else "refused")

    for times in (1, 2):
        failed = len(connecting.lines("not connected"))
        restartable.stop()
        connecting.wait_log(ENDED, count=times)
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        wait_until(lambda: len(connecting.lines("not connected")) > failed, 20, "a failed attempt")
        restartable.start()
        waiting.join(scaled(30))
        if answers != ["late"]:
            break
        ask(connecting, targets)  # the server took longer than the ten seconds
    assert answers[-1:] == ["asked"], answers


def test_a_connection_waits_for_ten_seconds(server, client, targets):
    serving = server()
    connecting = client(serving, "--forward", f"0:127.0.0.1:{targets.echo}")
    serving.stop()
    connecting.wait_log(ENDED)
    results = {}

    def ask_for(name, function):
        start = time.monotonic()
        try:
            function(connecting.port, "127.0.0.1", targets.echo)
        except net.ProxyRefused as refused:
            results[name] = (refused.code, time.monotonic() - start)

    def forwarded(port, *_):
        with net.connect(connecting.forward_port()) as sock:
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
        raise net.ProxyRefused(0)

    asking = {"socks": net.socks_connect, "http": net.http_connect, "forward": forwarded}
    threads = [threading.Thread(target=ask_for, args=item) for item in asking.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(30))
    assert {name: code for name, (code, _) in results.items()} == {"socks": 1, "http": 503, "forward": 0}
    for _, took in results.values():
        assert 9.5 < took < patient(12), results
    assert connecting.running()


def test_only_so_many_wait(server, client, targets):
    request = b"\x05\x01\x00\x05\x01\x00" + net.socks_address("127.0.0.1") + b"\x00\x07"
    for _ in range(3):
        serving = server()
        connecting = client(serving)
        serving.stop()
        connecting.wait_log(ENDED)
        begun, socks = time.monotonic(), []
        for _ in range(257):
            sock = net.connect(connecting.port)
            sock.sendall(request)
            socks.append(sock)
        # One of them is too many: it hears so at once, and no other does.
        wait_until(lambda: any(_readable(sock, 12) for sock in socks), 5, "one refusal")
        refused = sum(_readable(sock, 12) for sock in socks)
        took = time.monotonic() - begun
        for sock in socks:
            sock.close()
        if took < 9.5:  # before the first has waited for long enough
            break
    assert refused == 1, f"{refused} were refused after {took:.1f} s"


def _readable(sock, n):
    try:
        got = sock.recv(n + 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return len(got) == n and got[3] == 1


def test_remote_forwards_are_asked_for_again(sshd, client, targets, tmp_path, running_programs):
    daemon = Restartable("sshd", None, sshd, tmp_path, running_programs)
    connecting = client(daemon, "--remote-forward", f"127.0.0.1:0:127.0.0.1:{targets.echo}", user=daemon.user)
    port = int(connecting.wait_log(r"alknet: the server listens on port (\d+) ").group(1))
    with net.connect(port) as sock:
        net.ask_echo(sock)
    daemon.stop()
    connecting.wait_log(ENDED)
    daemon.start()
    connecting.wait_log(AGAIN)

    def listens():
        try:
            net.connect(port).close()
            return True
        except OSError:
            return False

    wait_until(listens, 20, "the same port")
    with net.connect(port) as sock:
        net.ask_echo(sock)


def test_a_worker_that_dies(server, client, targets):
    serving = server(workers=1)
    connecting = client(serving)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        os.kill(serving.workers()[0], signal.SIGKILL)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    ask(connecting, targets)


def test_stdio_does_not_come_back(server, client, targets):
    serving = server()
    connecting = client(serving, "--stdio", f"127.0.0.1:{targets.slow}", socks5=None, wait=False)
    wait_until(lambda: serving.metric("alknet_channels") == 1 or not connecting.running(), 20, "the channel")
    connecting.expected_status = None
    serving.stop()
    connecting.wait()
    assert not connecting.lines("connecting again")


# ---- refusals


def test_a_key_that_is_refused_meanwhile(server, client, targets, keys, tmp_path):
    """Told loudly, tried again slowly, and good again when the key is."""
    allowed = tmp_path / "allowed"
    allowed.write_text(keys.public("user") + "\n")
    serving = server(authorized=allowed)
    connecting = client(serving, "--admin-socket", tmp_path / "client.sock")
    serving.stop()
    connecting.wait_log(ENDED)
    allowed.write_text(keys.public("stranger") + "\n")
    serving = server(authorized=allowed, listen=f"127.0.0.1:{serving.port}")
    connecting.wait_log(r"alknet: NOT CONNECTED: .*refused the key.*trying again every 60 s")
    assert connecting.call("status")["next_duration"] > 30
    serving.stop()
    allowed.write_text(keys.public("user") + "\n")
    server(authorized=allowed, listen=f"127.0.0.1:{serving.port}")
    connecting.call("reconnect")
    connecting.wait_log(AGAIN)
    ask(connecting, targets)


@pytest.mark.parametrize("known", ["kept", "lost"])
def test_a_host_key_that_changes_meanwhile(server, client, targets, keys, tmp_path, known):
    """Never accepted: not by --accept-new-host-key either, when nobody remembers the old one but the client."""
    serving = server()
    connecting = client(serving, "--accept-new-host-key", known=False)
    serving.stop()
    connecting.wait_log(ENDED)
    if known == "lost":
        connecting.known_hosts.unlink()
    before = connecting.known_hosts.read_text() if known == "kept" else None
    other = procs.make_key(tmp_path / "other")
    serving = server(listen=f"127.0.0.1:{serving.port}", key=str(other))
    line = connecting.wait_log(r"alknet: NOT CONNECTED: .*").group(0)
    assert "THE HOST KEY HAS CHANGED" in line
    assert procs.fingerprint(f"{other}.pub") in line and keys.fingerprint("host") in line
    assert not serving.lines("auth attempt"), "our key was shown to it"
    if before is not None:
        assert connecting.known_hosts.read_text() == before
    else:
        assert not connecting.known_hosts.exists()


def test_a_known_hosts_that_is_lost_meanwhile(server, client, targets):
    """The server has shown this key before: that is enough, and nobody is asked."""
    serving = server()
    connecting = client(serving)
    serving.stop()
    connecting.wait_log(ENDED)
    connecting.known_hosts.unlink()
    server(listen=f"127.0.0.1:{serving.port}")
    ask(connecting, targets)


# ---- signals


def test_hangup_asks_for_another_session(server, client, targets):
    """There is no terminal here; with one it ends the program."""
    serving = server()
    connecting = client(serving)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        connecting.signal(signal.SIGHUP)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    connecting.wait_log(AGAIN)
    ask(connecting, targets)
    wait_until(lambda: len(serving.sessions()) == 1, 10, "the old session to be gone")


def test_the_end_while_it_waits(server, client):
    serving = server()
    connecting = client(serving)
    serving.stop()
    connecting.wait_log(ENDED)
    connecting.signal(signal.SIGTERM)
    assert connecting.wait(5) == 0
