# SPDX-License-Identifier: MIT OR Apache-2.0
"""alknet connect: what it prints, its forwards, and how it fails."""

import os
import signal
import socket
import subprocess
import time

import pytest

from harness import net, procs
from harness.waiting import patient, scaled, wait_until


def run(keys, port, *more, identity="user", known=None):
    argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{port}", "--identity", keys.path(identity), "--user", "tester"]
    argv += ["--known-hosts", str(known), "--socks5", "127.0.0.1:0", *map(str, more)]
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=scaled(30), env=procs.environment(), check=False,
    )


def test_announcement(server, client, targets, workers):
    """What listens where, once, on stderr, with the real ports."""
    serving = server(workers=workers)
    connecting = client(serving, "--forward", f"0:127.0.0.1:{targets.echo}", "--forward", f"127.0.0.1:0:localhost:{targets.echo}")
    ports = [connecting.forward_port(0), connecting.forward_port(1)]
    assert len(connecting.lines(f"alknet: connected to 127.0.0.1:{serving.port}")) == 1
    assert f"alknet: forwarding 127.0.0.1:{ports[0]} to 127.0.0.1:{targets.echo}" in connecting.log()
    assert f"alknet: forwarding 127.0.0.1:{ports[1]} to localhost:{targets.echo}" in connecting.log()
    assert all(line.startswith("alknet: ") for line in connecting.log().splitlines()), connecting.log()
    for port in (*ports,):
        assert port != 0
        with net.connect(port) as sock:
            net.ask_echo(sock)


def test_forward_ipv6(server, client, targets, ipv6):
    connecting = client(server(), "--forward", f"[::1]:0:[::1]:{targets.echo6}")
    port = connecting.forward_port()
    with net.connect(port, "::1") as sock:
        net.ask_echo(sock)


def test_server_on_ipv6(server, client, targets, ipv6):
    connecting = client(server(listen="[::1]:0"), host="::1")
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)


def test_forward_to_a_unix_socket_behind_sshd(sshd, client, targets):
    daemon = sshd()
    connecting = client(daemon, "--forward", f"0:{targets.unix}", user=daemon.user)
    with net.connect(connecting.forward_port()) as sock:
        net.ask_echo(sock)


UNIX_POLICY = """return { on_open = function(session, destination)
  if destination.path then return "forward", { path = destination.path } end
  return "forward"
end }"""


def test_forward_to_a_unix_socket_behind_alknet(server, client, targets):
    """The policy has to say so: a path is never forwarded by itself."""
    connecting = client(server(policy=UNIX_POLICY), "--forward", f"127.0.0.1:0:{targets.unix_sink}")
    with net.connect(connecting.forward_port()) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_line(sock).startswith(b"5 ")


def test_unix_sockets_are_denied_without_a_policy(server, client, targets):
    before = targets.stat("accepted", "unix")
    connecting = client(server(), "--forward", f"0:{targets.unix}", "--forward", f"0:127.0.0.1:{targets.echo}")
    with net.connect(connecting.forward_port(0)) as sock:
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    assert targets.stat("accepted", "unix") == before
    with net.connect(connecting.forward_port(1)) as sock:
        net.ask_echo(sock)


def test_forward_of_a_refused_target(server, client, targets):
    """The application's connection is closed; the forward stays."""
    connecting = client(server(), "--forward", f"0:127.0.0.1:{targets.refused}", "--forward", f"0:127.0.0.1:{targets.echo}")
    for _ in range(3):
        with net.connect(connecting.forward_port(0)) as sock:
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
    with net.connect(connecting.forward_port(1)) as sock:
        net.ask_echo(sock)


def test_without_socks(server, client, targets):
    connecting = client(server(), "--forward", f"0:127.0.0.1:{targets.echo}", socks5="none")
    assert "SOCKS5" not in connecting.log()
    with net.connect(connecting.forward_port()) as sock:
        net.ask_echo(sock)


def test_port_taken(server, keys, tmp_path):
    serving = server()
    known = keys.known_hosts(tmp_path / "k", serving.port)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        out = run(keys, serving.port, "--forward", f"{port}:localhost:1", known=known)
        assert out.returncode == 2 and str(port) in out.stderr and "--forward" in out.stderr, out
        out = run(keys, serving.port, "--socks5", f"127.0.0.1:{port}", known=known)
        assert out.returncode == 2 and str(port) in out.stderr and "--socks5" in out.stderr, out


@pytest.mark.parametrize(
    ("kind", "words"), [("refused", "refused"), ("blackhole", "127.0.0.1"), ("silent", "127.0.0.1"), ("name", "no-such-host.invalid"), ("web", "127.0.0.1")]
)
def test_first_connection_that_fails(keys, targets, tmp_path, kind, words):
    """Status 1 and the reason."""
    more = ["--connect-timeout", "2", "--handshake-timeout", "2"]
    port = {"refused": targets.refused, "blackhole": targets.blackhole, "silent": targets.slow, "name": 1, "web": targets.http}[kind]
    if kind == "name":
        more += ["--server", "no-such-host.invalid:22"]
    start = time.monotonic()
    out = run(keys, port, *more, known=tmp_path / "none")
    assert out.returncode == 1, out
    assert words in out.stderr and len(out.stderr.strip().splitlines()) == 1, out.stderr
    assert time.monotonic() - start < scaled(25)


def test_authentication_refused(server, keys, tmp_path):
    serving = server()
    known = keys.known_hosts(tmp_path / "k", serving.port)
    out = run(keys, serving.port, identity="stranger", known=known)
    assert out.returncode == 1 and "127.0.0.1" in out.stderr
    assert "denied" in out.stderr.lower() or "refused" in out.stderr.lower() or "authentication" in out.stderr.lower()
    assert len(serving.lines("auth attempt", "result=reject")) == 1


def test_authentication_refused_by_sshd(sshd, keys, tmp_path):
    daemon = sshd()
    known = keys.known_hosts(tmp_path / "k", daemon.port)
    out = run(keys, daemon.port, identity="stranger", known=known)
    assert out.returncode == 1


def test_term_and_int_end_it(server, client, targets):
    serving = server()
    for number in (signal.SIGTERM, signal.SIGINT):
        connecting = client(serving)
        sock = net.socks_connect(connecting.port, "127.0.0.1", targets.echo)
        net.ask_echo(sock)
        connecting.signal(number)
        assert connecting.wait(5) == 0
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
        sock.close()
    wait_until(lambda: serving.metric("alknet_sessions") == 0, 10, "the sessions to be gone")


def test_server_that_goes_away(server, client, targets):
    """Open connections end at once when the session does."""
    serving = server()
    connecting = client(serving)
    sock = net.socks_connect(connecting.port, "127.0.0.1", targets.echo)
    net.ask_echo(sock)
    serving.stop()
    sock.settimeout(patient(10))
    try:
        assert sock.recv(1) == b""
    except ConnectionResetError:
        pass
    sock.close()
    connecting.expected_status = connecting.wait(20) if not connecting.running() else 0


def test_t29_server_that_says_nothing(server, client, targets):
    """A dead peer is noticed by three unanswered keepalives."""
    serving = server(workers=1)
    connecting = client(serving, "--keepalive", "1")
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        stopped = procs.tree(serving.pid)
        for pid in stopped[1:]:
            procs.freeze(pid)
        try:
            sock.settimeout(scaled(15))
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
        finally:
            for pid in stopped[1:]:
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:
                    pass
    connecting.expected_status = None


def test_garbage_from_a_server(keys, tmp_path):
    """Whatever a server says, the client ends with a sentence and status 1."""
    for words in (b"", b"SSH-2.0-x\r\n" + b"\xff" * 5000, b"x" * 100000, b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14" + b"\0" * 100, b"\n" * 50000):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{listener.getsockname()[1]}", "--identity", keys.path("user")]
            argv += ["--known-hosts", str(tmp_path / "none"), "--socks5", "127.0.0.1:0", "--handshake-timeout", "5"]
            popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=procs.environment())
            listener.settimeout(patient(10))
            sock, _ = listener.accept()
            with sock:
                try:
                    sock.sendall(words)
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                _, text = popen.communicate(timeout=scaled(20))
            assert popen.returncode == 1, (words[:20], text)
            assert not procs.SANITIZER.search(text), text
            assert len(text.strip().splitlines()) == 1, text



def test_a_user_who_stands_in_no_file(server, keys, targets, tmp_path):
    """As a service manager or a container makes one: named by LOGNAME or --user, without an entry and without a home."""
    unmapped = ["unshare", "--user", "--map-user=54321"]
    if subprocess.run([*unmapped, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    serving = server()
    keys.known_hosts(tmp_path / "hosts", serving.port)

    def ask(**env):
        return subprocess.run(
            [*unmapped, procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", keys.path("user"), "--known-hosts",
             tmp_path / "hosts", "--stdio", f"127.0.0.1:{targets.echo}"],
            input=b"hello\n", capture_output=True, timeout=scaled(30), env=procs.environment(HOME=None, USER=None, **env), check=False,
        )

    done = ask(LOGNAME="somebody")
    assert done.stdout == b"hello\n" and done.returncode == 0, done
    serving.wait_log("auth attempt.* user=somebody .*result=accept")
    done = ask(LOGNAME=None)
    assert done.returncode == 2 and b"uid 54321 has no name here: give --user NAME" in done.stderr
