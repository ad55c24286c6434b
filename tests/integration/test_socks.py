# SPDX-License-Identifier: MIT OR Apache-2.0
"""The proxy port to the letter of RFC 1928 and 1929, its logins, and where names are looked up."""

import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import net, procs
from harness.waiting import patient, scaled

HELLO = b"\x05\x01\x00"
LOGIN = b"\x05\x01\x02\x01\x04anna\x06secret"


def request(host, port, kind="name", command=1):
    return bytes([5, command, 0]) + net.socks_address(host, kind) + struct.pack(">H", port)


def answers(port, words):
    """All that the proxy says to it until it closes, without a reset that could have eaten something."""
    with net.connect(port) as sock:
        sock.sendall(words)
        return net.recv_all(sock)


@pytest.fixture
def proxy(tunnel):
    return tunnel()[1]


REPLY = struct.Struct(">BBBB4sH")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (b"\x05\x00", b"\x05\xff"),
        (b"\x05\x01\x02", b"\x05\xff"),
        (b"\x05\x03\x01\x02\x80", b"\x05\xff"),
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"\x00\x5b" + bytes(6)),
        (b"\x06\x01\x00", b""),
        (b"\x00", b""),
        (HELLO + b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00" + REPLY.pack(5, 7, 0, 1, bytes(4), 0)),
        (HELLO + b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00" + REPLY.pack(5, 7, 0, 1, bytes(4), 0)),
        (HELLO + b"\x05\x09\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00" + REPLY.pack(5, 7, 0, 1, bytes(4), 0)),
        (HELLO + b"\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", b"\x05\x00" + REPLY.pack(5, 8, 0, 1, bytes(4), 0)),
        (HELLO + b"\x05\x01\x00\x03\x00\x00\x50", b"\x05\x00" + REPLY.pack(5, 1, 0, 1, bytes(4), 0)),
        (HELLO + b"\x05\x01\x00\x03\x05a\x00b.c\x00\x50", b"\x05\x00" + REPLY.pack(5, 1, 0, 1, bytes(4), 0)),
        (HELLO + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", b"\x05\x00" + REPLY.pack(5, 1, 0, 1, bytes(4), 0)),
        (HELLO + b"\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00" + REPLY.pack(5, 1, 0, 1, bytes(4), 0)),
    ],
    ids="nmethods0 onlylogin unusable socks4 version6 zero bind udp command9 atyp2 noname nul port0 badversion".split(),
)
def test_t68_refusals(proxy, words, answer):
    """Exactly these bytes, then the end."""
    assert answers(proxy.port, words) == answer


def test_t68_success_is_told_with_an_address(proxy, targets):
    with net.connect(proxy.port) as sock:
        sock.sendall(HELLO + request("127.0.0.1", targets.echo, "address") + b"early")
        assert net.recv_exact(sock, 2) == b"\x05\x00"
        assert net.recv_exact(sock, 10) == REPLY.pack(5, 0, 0, 1, bytes(4), 0)
        assert net.recv_exact(sock, 5) == b"early"


def test_t68_longest_name(proxy):
    """255 bytes get through to the server, which has no such name."""
    assert answers(proxy.port, HELLO + request("n" * 63 + ".invalid" * 24, 80))[3] == 4
    assert answers(proxy.port, HELLO + request("x" * 255, 80))[3] in (1, 2, 4)


@pytest.mark.parametrize(("where", "code"), [("refused", 5), ("name", 4), ("blackhole", 6)])
def test_t68_failures_have_their_reply(server, client, targets, where, code):
    connecting = client(server("--connect-timeout", "2" if where == "blackhole" else "20"))
    host, port = ("no-such-host.invalid", 80) if where == "name" else ("127.0.0.1", getattr(targets, where))
    assert answers(connecting.port, HELLO + request(host, port))[2:4] == bytes([5, code])


def test_t68_denied(server, client, targets):
    connecting = client(server(policy='return { on_open = function() return "deny", "no" end }'))
    assert answers(connecting.port, HELLO + request("127.0.0.1", targets.echo))[2:4] == b"\x05\x02"


def test_t68_silence(proxy, targets):
    """Ten seconds from the first byte to the end of the request, however it is spread; nobody else notices."""
    slow = [b"", b"\x05", HELLO, HELLO + request("127.0.0.1", targets.echo)[:-1], b"CONNECT a:1 HTTP/1.1\r\n"]
    took = {}

    def wait_for_end(n, words):
        start = time.monotonic()
        with net.connect(proxy.port) as sock:
            sock.sendall(words)
            try:
                net.recv_all(sock)
            except ConnectionResetError:
                pass
        took[n] = time.monotonic() - start

    threads = [threading.Thread(target=wait_for_end, args=item) for item in enumerate(slow)]
    for thread in threads:
        thread.start()
    with net.socks_connect(proxy.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        for thread in threads:
            thread.join(scaled(30))
        # Who asked in time may be silent.
        net.ask_echo(sock)
    assert len(took) == len(slow) and all(9 < t < patient(12) for t in took.values()), took


def test_t68_another_address_warns(server, client):
    connecting = client(server(), socks5="0.0.0.0:0", wait=False)
    connecting.wait_log("alknet: SOCKS5 and HTTP proxy on 0.0.0.0:")
    assert len(connecting.lines("warning", "--socks5-auth-file")) == 1


# ---- logins


@pytest.fixture
def logins(tmp_path):
    path = tmp_path / "logins"
    path.write_text("# of the proxy\nanna:secret\nbob:with:colons\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("way", ["--socks5-hostname", "--proxytunnel"])
def test_curl_logs_in(tunnel, targets, logins, way):
    _, connecting = tunnel(connect=("--socks5-auth-file", logins))
    where = [way, f"127.0.0.1:{connecting.port}"] if way == "--socks5-hostname" else [way, "--proxy", f"http://127.0.0.1:{connecting.port}"]
    page = f"http://localhost:{targets.http}/"
    for user in ("anna:secret", "bob:with:colons"):
        assert b"the page" in procs.curl(*where, "--proxy-user", user, page).stdout
    for user in ("anna:wrong", "bob:secret", "nobody:secret"):
        out = procs.curl(*where, "--proxy-user", user, page)
        assert out.returncode != 0 and b"the page" not in out.stdout
    assert procs.curl(*where, page).returncode != 0
    log = connecting.log()
    assert len(connecting.lines("proxy login refused", "remote_addr=127.0.0.1")) >= 3
    assert "anna" not in log and "secret" not in log and "wrong" not in log


def test_t68_login_to_the_letter(tunnel, targets, logins):
    _, connecting = tunnel(connect=("--socks5-auth-file", logins))
    asked = LOGIN + request("127.0.0.1", targets.echo, "address")
    with net.connect(connecting.port) as sock:
        for byte in asked:
            sock.sendall(bytes([byte]))
        assert net.recv_exact(sock, 14) == b"\x05\x02\x01\x00" + REPLY.pack(5, 0, 0, 1, bytes(4), 0)
        net.ask_echo(sock)
    with net.connect(connecting.port) as sock:
        sock.sendall(asked + b"early")
        assert net.recv_exact(sock, 19).endswith(b"early")
    assert answers(connecting.port, LOGIN[:-1] + b"T" + asked) == b"\x05\x02\x01\x01"
    assert answers(connecting.port, HELLO) == b"\x05\xff"
    assert answers(connecting.port, b"CONNECT a:1 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 407 ")


def test_login_from_the_configuration(server, client, targets, tmp_path):
    conf = tmp_path / "client.conf"
    conf.write_text('return { socks5_auth = "anna:secret" }\n')
    connecting = client(server(), "-c", conf)
    with net.connect(connecting.port) as sock:
        sock.sendall(LOGIN + request("127.0.0.1", targets.echo))
        assert net.recv_exact(sock, 6) == b"\x05\x02\x01\x00\x05\x00"
    with open(f"/proc/{connecting.pid}/cmdline", "rb") as line:
        assert b"secret" not in line.read()


@pytest.mark.parametrize(
    ("text", "mode", "more", "words"),
    [
        ("anna:secretword\n", 0o644, [], "logins"),
        ("secretword\n", 0o600, [], "line 1"),
        ("", 0o600, [], "USER:PASSWORD"),
        ("anna:secretword\nbob:\n", 0o600, [], "line 2"),
        ("anna:secretword\n", 0o600, ["-c", "CONF"], "give one of the two"),
        (None, 0o600, ["--socks5-auth", "anna:secretword"], "--socks5-auth"),
    ],
    ids="others nocolon empty nopassword both flag".split(),
)
def test_logins_that_are_not_taken(keys, tmp_path, text, mode, more, words):
    """Exit 2 with a sentence that names what is wrong and not what is secret."""
    argv = [procs.alknet(), "connect", "--server", "127.0.0.1:1", "--identity", keys.path("user"), "--socks5", "127.0.0.1:0"]
    if text is not None:
        path = tmp_path / "logins"
        path.write_text(text)
        path.chmod(mode)
        argv += ["--socks5-auth-file", str(path)]
    conf = tmp_path / "conf"
    conf.write_text('return { socks5_auth = "a:b" }\n')
    argv += [str(conf) if word == "CONF" else word for word in more]
    out = subprocess.run(argv, capture_output=True, text=True, timeout=scaled(30), env=procs.environment(), check=False)
    assert out.returncode == 2 and words in out.stderr, out
    assert "secretword" not in out.stderr and len(out.stderr.strip().splitlines()) == 1


def test_no_warning_with_logins(server, client, logins):
    connecting = client(server(), "--socks5-auth-file", logins, socks5="0.0.0.0:0", wait=False)
    connecting.wait_log("alknet: SOCKS5 and HTTP proxy on 0.0.0.0:")
    assert not connecting.lines("warning")


# ---- names


def test_names_are_not_resolved_here(namespace, server, client, targets, tmp_path):
    """A resolver that must not be asked listens where the client's system says that it is."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    namespace.run("mount", "--bind", str(conf), "/etc/resolv.conf")
    hits = []
    with namespace.inside():
        resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        resolver.bind(("127.0.0.1", 53))
        echo = socket.create_server(("127.0.0.1", 0))
    resolver.setblocking(False)
    port = echo.getsockname()[1]

    def serve():
        while True:
            sock, _ = echo.accept()
            with sock:
                sock.sendall(sock.recv(1000))

    threading.Thread(target=serve, daemon=True).start()
    policy = 'return { on_open = function() return "forward", { host = "127.0.0.1", port = %d } end }' % port
    serving = server(policy=policy, wrap=namespace.wrap)
    connecting = client(serving, "--forward", "0:forwarded.example:80", wrap=namespace.wrap)
    for host in ("name.example", "n" * 60 + ".test", "localhost.localdomain"):
        with namespace.inside():
            sock = net.socks_connect(connecting.port, host, 80)
        with sock:
            net.ask_echo(sock)
        with namespace.inside():
            sock = net.http_connect(connecting.port, host, 80)
        with sock:
            net.ask_echo(sock)
    with namespace.inside():
        sock = net.connect(connecting.forward_port())
    with sock:
        net.ask_echo(sock)
    # The trap works: who does resolve here, asks it.
    subprocess.run([*namespace.wrap, "getent", "hosts", "asked.example"], check=False, capture_output=True, timeout=scaled(30))
    try:
        while True:
            hits.append(resolver.recv(1000))
    except BlockingIOError:
        pass
    resolver.close()
    assert hits, "the trap does not work"
    assert not [hit for hit in hits if b"asked" not in hit], hits
