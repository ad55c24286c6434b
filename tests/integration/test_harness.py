# SPDX-License-Identifier: MIT OR Apache-2.0
"""The harness against stock OpenSSH alone: what fails here is not alknet's fault."""

import hashlib
import signal
import socket

from harness import net, sshwire
from harness.procs import Program
from harness.waiting import wait_until


def test_targets_keep_what_they_promise(targets):
    with net.connect(targets.echo) as sock:
        net.ask_echo(sock)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_all(sock) == b""
    with net.connect(targets.source) as sock:
        sock.sendall(b"1000003\n")
        assert hashlib.sha256(net.recv_all(sock)).hexdigest() == net.pattern_sha256(1000003)
    with net.connect(targets.sink) as sock:
        for piece in net.pattern(1000003):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_line(sock).split() == [b"1000003", net.pattern_sha256(1000003).encode()]
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", targets.refused)) != 0
    with socket.socket() as sock:
        sock.settimeout(1)
        try:
            sock.connect(("127.0.0.1", targets.blackhole))
            raise AssertionError("the black hole answered")
        except TimeoutError:
            pass


def test_ssh_and_sshd(ssh, sshd, targets, keys):
    daemon = sshd()
    out = ssh.run(daemon, "-W", f"127.0.0.1:{targets.sink}", data=b"hello", user=daemon.user)
    assert out.stdout.split() == [b"5", hashlib.sha256(b"hello").hexdigest().encode()], out


def test_handmade_ssh(sshd, targets, keys):
    daemon = sshd()
    key = sshwire.load_key(keys.path("user"))
    with sshwire.Wire(daemon.port) as wire:
        wire.login(key, daemon.user)
        assert wire.is_alive()
        channel, _ = wire.open_channel(7, "127.0.0.1", targets.echo)
        wire.data(channel, b"through")
        assert wire.read(7) == b"through"
        wire.exchange_keys()
        wire.data(channel, b"again")
        assert wire.read(5) == b"again"
        assert wire.open_channel(8, "127.0.0.1", targets.refused) is None
        assert wire.failure == 2
    with sshwire.Wire(daemon.port) as wire:
        wire.service()
        wire.auth_request(daemon.user, key, spoil=True)
        assert wire.expect(sshwire.AUTH_FAILURE, sshwire.AUTH_SUCCESS)[0] == sshwire.AUTH_FAILURE


def test_program_is_ended_by_its_pid(tmp_path):
    program = Program(["cat"], tmp_path / "log", stdin=-1)
    program.signal(signal.SIGTERM)
    wait_until(lambda: not program.running())
    program.popen.stdin.close()
