# SPDX-License-Identifier: MIT OR Apache-2.0
"""A peer that is not there any more, a machine that slept, clocks that jump."""

import contextlib
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness import net, procs
from harness.waiting import Settled, patient, wait_until

ENDED = r"alknet: the session ended: .*"
AGAIN = r"alknet: connected to 127\.0\.0\.1:\d+ again after "


def stop_tree(pid, number):
    for one in procs.tree(pid):
        try:
            os.kill(one, number)
        except ProcessLookupError:
            pass


def expect_again(connecting, targets):
    connecting.wait_log(AGAIN, timeout=40)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)


@pytest.mark.parametrize("kind", ["alknet", "sshd"])
def test_t29_a_server_that_is_stopped(kind, server, sshd, client, targets):
    """Its kernel still acknowledges what we send; nobody answers."""
    peer = server() if kind == "alknet" else sshd()
    connecting = client(peer, "--keepalive", "2", "--handshake-timeout", "10", user=getattr(peer, "user", "tester"))
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        stop_tree(peer.pid, signal.SIGSTOP)
        start = time.monotonic()
        try:
            assert "does not answer" in connecting.wait_log(ENDED).group(0)
            assert time.monotonic() - start < patient(6), "three times the keepalive"
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
        finally:
            stop_tree(peer.pid, signal.SIGCONT)
    expect_again(connecting, targets)


DROP = """
table inet test {
  chain everything {
    type filter hook input priority 0
    tcp sport PORT drop
    tcp dport PORT drop
  }
}
"""


def drop_both_ways(namespace, server, client, seconds):
    """Packets vanish without a word: both ends notice. Gives how long the client took."""
    serving = server("--keepalive", str(seconds), wrap=namespace.wrap)
    connecting = client(serving, "--keepalive", str(seconds), "--handshake-timeout", "10", wrap=namespace.wrap)
    wait_until(lambda: serving.metric("alknet_sessions_authenticated") == 1, 10, "the session")
    namespace.firewall(DROP.replace("PORT", str(serving.port)))
    start = time.monotonic()
    assert "does not answer" in connecting.wait_log(ENDED, timeout=4 * seconds).group(0)
    took = time.monotonic() - start
    wait_until(lambda: serving.metric("alknet_sessions_authenticated") == 0, 4 * seconds, "the server to notice")
    both = time.monotonic() - start
    namespace.firewall("flush ruleset\n")
    connecting.wait_log(AGAIN, timeout=40)
    return took, both


def test_t29_packets_that_are_dropped(namespace, server, client):
    took, both = drop_both_ways(namespace, server, client, 2)
    assert took < patient(6) and both < patient(7), (took, both)


@pytest.mark.skipif("ALKNET_TEST_FULL" not in os.environ, reason="takes a minute: ALKNET_TEST_FULL=1")
def test_t29_packets_that_are_dropped_for_45_seconds(namespace, server, client):
    """With the client's defaults."""
    took, both = drop_both_ways(namespace, server, client, 15)
    assert took <= 45 and both <= 46, (took, both)


class Relay:
    """Between client and server. From `slow` on: what the client sends trickles through, nothing comes back."""

    def __init__(self, to):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(5)
        self.port = self.listener.getsockname()[1]
        self.to, self.slow, self.deaf = to, threading.Event(), threading.Event()
        self.passed, self.came = 0, 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self.up, args=(near, far), daemon=True).start()
            threading.Thread(target=self.down, args=(far, near), daemon=True).start()

    def up(self, near, far):
        try:
            while data := near.recv(2048):
                far.sendall(data)
                self.passed += len(data)
                if self.deaf.is_set():
                    return
                if self.slow.is_set():
                    self.deaf.wait(0.06)
        except OSError:
            pass

    def down(self, far, near):
        try:
            while data := far.recv(65536):
                if not self.slow.is_set():
                    near.sendall(data)
                    self.came += len(data)
        except OSError:
            pass


def test_a_slow_upload_is_not_cut(server, client, targets):
    """No answer fits through for longer than a dead peer has, but the upload goes on; then it does not."""
    relay = Relay(server().port)
    connecting = client(relay, "--keepalive", "5")
    with net.socks_connect(connecting.port, "127.0.0.1", targets.discard) as sock:
        sock.setblocking(False)

        def push(total):
            try:
                sock.send(bytes(65536))
            except BlockingIOError:
                pass
            return relay.passed > total or connecting.lines("the session ended")

        # At full speed first, so that the window is open wide: nobody will hear that it opens again.
        wait_until(lambda: push(8 << 20), 60, "the upload to begin")
        wait_until(Settled(lambda: relay.passed + relay.came, 200), 20, "the way to be empty, and the window open")
        relay.slow.set()
        start, passed = time.monotonic(), relay.passed
        wait_until(lambda: push(passed + 700000), 60, "the upload to go on")
        assert not connecting.lines("the session ended"), connecting.log()
        assert time.monotonic() - start > 16, "not slow enough to tell"
        relay.deaf.set()
        connecting.wait_log(ENDED)


def test_a_client_that_was_stopped(sshd, client, targets):
    """As a laptop that was closed: for longer than a peer may be silent."""
    daemon = sshd()
    connecting = client(daemon, "--keepalive", "1", user=daemon.user)
    procs.freeze(connecting.pid)
    start = time.monotonic()
    # It looks at the clocks every five seconds.
    wait_until(lambda: time.monotonic() - start > 9, 20, "the limit to pass, however soon it would have looked")
    connecting.signal(signal.SIGCONT)
    expect_again(connecting, targets)


def test_a_server_that_was_stopped(server, client, targets):
    """For longer than a client may be silent: it has not asked, so it asks now, and ends nobody's session, however many workers it has."""
    pairs = []
    for workers in (0, 1, 2):
        serving = server("--keepalive", "8", workers=workers)
        pairs.append((serving, client(serving, "--keepalive", "60")))
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(net.socks_connect(connecting.port, "127.0.0.1", targets.echo)) for _, connecting in pairs]
        for sock in socks:
            net.ask_echo(sock)
        for serving, _ in pairs:
            for pid in procs.tree(serving.pid):
                procs.freeze(pid)
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start > 24, 30, "the limit to pass")
        for serving, _ in pairs:
            stop_tree(serving.pid, signal.SIGCONT)
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start > 24, 30, "the limit to pass once more")
        for sock in socks:
            net.ask_echo(sock)
    for serving, connecting in pairs:
        assert not connecting.lines("the session ended") and serving.metric("alknet_sessions_total") == 1


def test_a_machine_that_slept(server, client, targets, clocks):
    """Only the clock of the boot went on: the session is not believed in, and there is no wait before the next."""
    serving = server()
    connecting = client(serving, "--keepalive", "15", env=procs.environment(**clocks.environment))
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        clocks.move(boot=3600)
        line = connecting.wait_log(ENDED).group(0)
        assert re.search(r"slept for 360\d s", line) and "connecting again in 0.0 s" in line, line
    expect_again(connecting, targets)


def test_a_machine_that_slept_for_a_moment(server, client, targets, clocks):
    """A nap is survived by connections, and so they survive it."""
    serving = server()
    connecting = client(serving, "--keepalive", "15", env=procs.environment(**clocks.environment))
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        clocks.move(boot=20)
        # The question that follows the nap is answered, and asked no more.
        clocks.move(boot=20, wall=20)
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start > 6, 20, "the clocks to be looked at")
        net.ask_echo(sock)
    assert not connecting.lines("the session ended")


@pytest.mark.parametrize("days", [400, -400])
def test_t44_a_wall_clock_that_is_set(server, client, targets, clocks, days):
    """Sessions, keepalives, waits and deadlines at both ends go on as if nothing had happened."""
    env = procs.environment(**clocks.environment)
    serving = server("--keepalive", "4", workers=1, env=env)
    connecting = client(serving, "--keepalive", "4", env=env)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        half = net.connect(serving.port)  # its handshake has begun before, and has its time still
        assert net.recv_exact(half, 4) == b"SSH-"
        clocks.move(wall=days * 86400)
        net.ask_echo(sock)
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start > 9, 20, "some keepalives")
        net.ask_echo(sock)
        half.settimeout(0.1)
        with pytest.raises(TimeoutError):
            while half.recv(4096):
                pass
        half.close()
    assert not connecting.lines("the session ended")
    # A wait that began before the jump ends in its own time too.
    os.kill(serving.workers()[0], signal.SIGKILL)
    connecting.wait_log(ENDED)
    clocks.move()
    expect_again(connecting, targets)
