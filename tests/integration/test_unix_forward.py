# SPDX-License-Identifier: MIT OR Apache-2.0
"""Forwards that listen on a unix socket."""

import os
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from harness import net, procs
from harness.waiting import scaled, wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "forward.sock"


@pytest.fixture(params=["alknet", "sshd"])
def peer(request, server):
    if request.param == "alknet":
        serving = server()
        serving.user = "tester"
        return serving
    return request.getfixturevalue("sshd")()


def dial(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(scaled(20))
    sock.connect(str(path))
    return sock


def test_from_a_unix_socket(peer, client, targets, path):
    connecting = client(peer, "--forward", f"{path}:127.0.0.1:{targets.echo}", user=peer.user)
    connecting.wait_log(re.escape(f"alknet: forwarding {path} to 127.0.0.1:{targets.echo}"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with dial(path) as sock:
        net.ask_echo(sock)
    connecting.signal(signal.SIGTERM)
    assert connecting.wait(10) == 0
    assert not path.exists()


def test_from_unix_to_unix_behind_sshd(sshd, client, targets, path):
    daemon = sshd()
    client(daemon, "--forward", f"{path}:{targets.unix_sink}", user=daemon.user)
    with dial(path) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_line(sock).startswith(b"5 ")


def test_a_socket_that_was_left_behind(server, client, targets, path):
    serving = server()
    spec = f"{path}:127.0.0.1:{targets.echo}"
    first = client(serving, "--forward", spec)
    first.expected_status = None
    first.kill()
    assert path.exists()
    client(serving, "--forward", spec)
    with dial(path) as sock:
        net.ask_echo(sock)


@pytest.mark.parametrize("kind", ["live", "file", "directory", "link"])
def test_a_path_that_is_taken(server, client, keys, targets, path, tmp_path, kind):
    """Exit 2 with the path, and whatever is there stays."""
    serving = server()
    spec = f"{path}:127.0.0.1:{targets.echo}"
    if kind == "live":
        client(serving, "--forward", spec)
    elif kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        (tmp_path / "aim").write_text("precious")
        path.symlink_to(tmp_path / "aim")
    before = os.lstat(path)
    argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", keys.path("user"), "--socks5", "none"]
    out = subprocess.run([*argv, "--forward", spec], capture_output=True, text=True, timeout=scaled(30), env=procs.environment(), check=False)
    assert out.returncode == 2 and str(path) in out.stderr and "--forward" in out.stderr, out
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    if kind == "live":
        with dial(path) as sock:
            net.ask_echo(sock)


def test_a_path_that_somebody_else_took_over(server, client, targets, path):
    """At its end a client removes its own socket and no other."""
    connecting = client(server(), "--forward", f"{path}:127.0.0.1:{targets.echo}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        assert connecting.stop() == 0
        assert path.exists()


def test_it_outlives_the_session(server, client, targets, path):
    listen = f"127.0.0.1:{net.free_port()}"
    serving = server(listen=listen)
    connecting = client(serving, "--forward", f"{path}:127.0.0.1:{targets.echo}")
    for times in (1, 2):
        serving.stop()
        connecting.wait_log("the session ended", count=times)
        begun = time.monotonic()
        with dial(path) as sock:
            serving = server(listen=listen)
            try:
                net.ask_echo(sock)
                break
            except (EOFError, OSError):
                # It waits for ten seconds, and the server took longer.
                if times == 2 or time.monotonic() - begun < 9.5:
                    raise
        connecting.wait_log("again after", count=times)
    wait_until(path.exists, 1, "the socket")
