# SPDX-License-Identifier: MIT OR Apache-2.0
"""The proxy port of alknet connect: SOCKS5, HTTP CONNECT, curl, bad input."""

import socket
import struct

import pytest

from harness import net, procs

PAGE = b"the page behind the tunnel\n"


@pytest.fixture
def proxy(tunnel):
    return tunnel()[1]


def test_curl_socks5_hostname(tunnel, targets, workers):
    _, connecting = tunnel(workers=workers)
    out = procs.curl("--socks5-hostname", f"127.0.0.1:{connecting.port}", f"http://localhost:{targets.http}/")
    assert out.stdout == PAGE, out


def test_curl_socks5_address(proxy, targets):
    out = procs.curl("--socks5", f"127.0.0.1:{proxy.port}", f"http://127.0.0.1:{targets.http}/")
    assert out.stdout == PAGE, out


def test_curl_http_connect(proxy, targets):
    out = procs.curl("--proxytunnel", "--proxy", f"http://127.0.0.1:{proxy.port}", f"http://127.0.0.1:{targets.http}/")
    assert out.stdout == PAGE, out


def test_curl_through_sshd(client, sshd, targets):
    daemon = sshd()
    connecting = client(daemon, user=daemon.user)
    out = procs.curl("--socks5-hostname", f"127.0.0.1:{connecting.port}", f"http://localhost:{targets.http}/")
    assert out.stdout == PAGE, out


def test_curl_is_told_of_a_refusal(proxy, targets):
    out = procs.curl("--socks5-hostname", f"127.0.0.1:{proxy.port}", f"http://127.0.0.1:{targets.refused}/")
    assert out.returncode == 97, out
    out = procs.curl("--proxytunnel", "--proxy", f"http://127.0.0.1:{proxy.port}", f"http://127.0.0.1:{targets.refused}/")
    assert out.returncode in (7, 56), out


def test_ipv6_destination(proxy, targets, ipv6):
    for kind in ("address", "name"):
        with net.socks_connect(proxy.port, "::1", targets.echo6, kind) as sock:
            net.ask_echo(sock)
    with net.http_connect(proxy.port, "::1", targets.echo6) as sock:
        net.ask_echo(sock)


def test_data_behind_the_request_is_kept(proxy, targets):
    with net.socks_connect(proxy.port, "127.0.0.1", targets.echo, early=b"early") as sock:
        assert net.recv_exact(sock, 5) == b"early"
    with net.connect(proxy.port) as sock:
        where = f"127.0.0.1:{targets.echo}".encode()
        sock.sendall(b"CONNECT " + where + b" HTTP/1.1\r\nHost: " + where + b"\r\n\r\nearly")
        head = b""
        while not head.endswith(b"early"):
            head += net.recv_exact(sock, 1)
        assert head.startswith(b"HTTP/1.1 200 "), head


def test_byte_by_byte(proxy, targets):
    request = b"\x05\x01\x00" + b"\x05\x01\x00" + net.socks_address("localhost") + struct.pack(">H", targets.echo)
    with net.connect(proxy.port) as sock:
        for byte in request:
            sock.sendall(bytes([byte]))
        assert net.recv_exact(sock, 4) == b"\x05\x00\x05\x00"
        rest = net.recv_exact(sock, 2)
        net.recv_exact(sock, {1: 6, 4: 18}[rest[1]])
        net.ask_echo(sock)


@pytest.mark.parametrize("command", [2, 3], ids=["bind", "udp"])
def test_other_commands_are_not_supported(proxy, command):
    with net.connect(proxy.port) as sock:
        sock.sendall(b"\x05\x01\x00" + bytes([5, command, 0]) + net.socks_address("localhost") + b"\0\7")
        assert net.recv_exact(sock, 4) == b"\x05\x00\x05\x07"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", None),
        (b"\x05\x00", b"\x05\xff"),
        (b"\x05\x01\x02", b"\x05\xff"),
        (b"\x05\x01\x00\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x08"),
        (b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x07", b"\x05\x00\x05"),
        (b"\x05\x01\x00\x05\x01\x00\x03\x05a\x00b.c\x00\x07", b"\x05\x00\x05"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 4"),
        (b"CONNECT nowhere HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
        (b"CONNECT a:0 HTTP/1.1\r\n\r\n", b"HTTP/1.1 4"),
        (b"CONNECT a:99999 HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", None),
        (b"CONNECT " + b"a" * 20000, b"HTTP/1.1 4"),
    ],
    ids=["socks4", "nomethods", "nousable", "atyp2", "emptyname", "nulname", "get", "noport", "port0", "bigport", "tls", "longhead"],
)
def test_bad_requests_are_refused(proxy, targets, words, answer):
    """The connection ends with the protocol's own refusal; the proxy goes on."""
    with net.connect(proxy.port) as sock:
        sock.sendall(words)
        try:
            got = net.recv_all(sock)
        except ConnectionResetError:
            got = b""
        assert got.startswith(answer or b""), got
        if answer and answer.startswith(b"\x05\x00\x05"):
            assert got[3] != 0, "a refusal, not a success"
    with net.socks_connect(proxy.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)


def test_http_refusal(proxy, targets):
    with pytest.raises(net.ProxyRefused) as refused:
        net.http_connect(proxy.port, "127.0.0.1", targets.refused)
    assert refused.value.code in (403, 502)


def test_an_application_that_leaves_early(proxy, targets):
    """Connections dropped at each step do no harm."""
    for words in (b"", b"\x05", b"\x05\x01\x00", b"\x05\x01\x00\x05\x01\x00\x01"):
        sock = net.connect(proxy.port)
        sock.sendall(words)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    request = b"\x05\x01\x00\x05\x01\x00" + net.socks_address("127.0.0.1") + struct.pack(">H", targets.blackhole)
    for _ in range(10):
        with net.connect(proxy.port) as sock:
            sock.sendall(request)
    with net.socks_connect(proxy.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
