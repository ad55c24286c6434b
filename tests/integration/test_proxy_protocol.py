# SPDX-License-Identifier: MIT OR Apache-2.0
"""The PROXY protocol, version 2: accepted from named networks, and sent to targets."""

import contextlib
import socket
import struct

import pytest

from harness import net, proxies
from harness.configured import Configured
from harness.net import free_port
from harness.waiting import wait_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header(source="192.0.2.7", port=4711, command=0x21):
    addresses = socket.inet_aton(source) + socket.inet_aton("192.0.2.1") + struct.pack(">HH", port, 22)
    return SIGNATURE + bytes([command, 0x11]) + struct.pack(">H", len(addresses)) + addresses


def listener(networks='"127.0.0.0/8"', more=""):
    return f'listen = {{ {{ address = "127.0.0.1:0", proxy_protocol = true, proxy_from = {{ {networks} }} }} }}, {more}'


@pytest.fixture
def behind(server):
    """A server that hears balancers on loopback."""

    def start(*flags, **more):
        return server(*flags, conf=listener(more.pop("networks", '"127.0.0.0/8"')), listen=None, **more)

    return start


def banner(sock):
    return net.recv_exact(sock, 4)


def test_haproxy(behind, client, targets, tmp_path, running_programs):
    """The address that is logged, listed and asked about is the client's, not the balancer's."""
    policy = 'return { on_link = function(link) return link.remote_port == 0 and "deny" or "allow" end }'
    serving = behind(policy=policy)
    front = proxies.haproxy(tmp_path, serving.port, "send-proxy-v2", "")
    running_programs.append(front)
    tunnel = client(front.port)
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    ours = [s for s in serving.sessions() if s["user"]]
    assert len(ours) == 1 and ours[0]["remote_addr"] == "127.0.0.1"


def test_haproxy_with_checksum(behind, tmp_path, running_programs):
    """TLVs: unique ids and a CRC32c, which is checked."""
    serving = behind()
    front = proxies.haproxy(tmp_path, serving.port, "send-proxy-v2", "proxy-v2-options crc32c,unique-id")
    running_programs.append(front)
    with net.connect(front.port) as sock:
        assert banner(sock) == b"SSH-"


def test_the_real_address(behind, workers):
    serving = behind(workers=workers)
    with net.connect(serving.port) as sock:
        sock.sendall(header())
        assert banner(sock) == b"SSH-"
        serving.wait_log("connection opened.*remote_addr=192.0.2.7")
        sessions = serving.sessions()
        assert [(s["remote_addr"], s["remote_port"]) for s in sessions] == [("192.0.2.7", 4711)]
    with net.connect(serving.port) as sock:
        sock.sendall(header(command=0x20))
        assert banner(sock) == b"SSH-"
        serving.wait_log("connection opened.*remote_addr=127.0.0.1")


def test_limits_see_it(behind):
    """max_connections_per_ip counts the client's address, whoever carries it."""
    serving = behind("--max-connections-per-ip", "1")
    with net.connect(serving.port) as first, net.connect(serving.port) as same, net.connect(serving.port) as other:
        first.sendall(header("192.0.2.7"))
        assert banner(first) == b"SSH-"
        same.sendall(header("192.0.2.7", 4712))
        assert same.recv(4) == b""
        other.sendall(header("192.0.2.8"))
        assert banner(other) == b"SSH-"
    serving.wait_log("connection refused.*remote_addr=192.0.2.7.*max_connections_per_ip")


def test_ssh_may_follow_at_once(behind, keys):
    """The header and the client's first bytes in one segment, or a byte at a time: nothing is lost."""
    serving = behind()
    for pieces in ([header() + b"SSH-2.0-test\r\n"], [bytes([b]) for b in header()] + [b"SSH-2.0-test\r\n"]):
        with net.connect(serving.port) as sock:
            for piece in pieces:
                sock.sendall(piece)
            line = net.recv_line(sock)
            assert line.startswith(b"SSH-2.0-")
            assert sock.recv(1), "the key exchange goes on"


def test_a_header_of_a_stranger_says_nothing(behind):
    """One who is not a named balancer is refused, however good the header is; its address is the one that counts."""
    serving = behind(networks='"192.0.2.0/24", "127.0.0.2"')
    with net.connect(serving.port) as sock:
        sock.sendall(header("192.0.2.9"))
        # Closed with the header unread.
        with pytest.raises(ConnectionResetError):
            assert sock.recv(64) == b""
            raise ConnectionResetError
    serving.wait_log("connection refused.*remote_addr=127.0.0.1.*proxy_protocol")
    assert "192.0.2.9" not in serving.log()
    with socket.create_connection(("127.0.0.1", serving.port), timeout=30, source_address=("127.0.0.2", 0)) as sock:
        sock.sendall(header("192.0.2.9"))
        assert banner(sock) == b"SSH-"


def test_others_are_refused(behind):
    """From a network that is not named not a byte is read."""
    serving = behind(networks='"10.0.0.0/8", "fd00::/8"')
    with net.connect(serving.port) as sock:
        assert sock.recv(4) == b""
    serving.wait_log("connection refused.*remote_addr=127.0.0.1.*proxy_protocol")
    assert 'alknet_links_refused_total{reason="proxy_protocol"} 1' in serving.call("metrics")["text"]


def test_half_a_header_outlives_its_listener(keys, tmp_path, running_programs, workers):
    """A reload closes the listener; who was accepted there is served when its header is whole."""
    keeps = {"address": "127.0.0.1:0"}
    goes = {"address": f"127.0.0.1:{free_port()}", "proxy_protocol": True, "proxy_from": ["127.0.0.0/8"]}
    serving = Configured(keys, tmp_path, running_programs, listen=[keeps, goes], workers=workers)
    port = int(goes["address"].rsplit(":", 1)[1])
    with net.connect(port) as sock:
        sock.sendall(header()[:20])
        wait_until(lambda: sum(row["accepted"] for row in serving.call("listener.list")["listeners"]) == 1, 10, "it to be accepted")
        serving.reload(listen=[keeps])
        with pytest.raises(ConnectionRefusedError):
            net.connect(port)
        sock.sendall(header()[20:])
        assert banner(sock) == b"SSH-"
        wait_until(lambda: serving.call("session.list")["sessions"], 10, "the session")
        assert [s["remote_addr"] for s in serving.call("session.list")["sessions"]] == ["192.0.2.7"]


@pytest.mark.parametrize("junk", [
    b"SSH-2.0-x\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x21\x11\0\0",
    SIGNATURE + b"\x31\x11\0\x0c" + bytes(12), SIGNATURE + b"\x21\x12\0\x0c" + bytes(12),
], ids=["ssh", "v1", "long", "short", "version", "udp"])
def test_garbage(behind, junk):
    serving = behind()
    with net.connect(serving.port) as sock:
        sock.sendall(junk)
        try:
            assert sock.recv(4) == b""
        except ConnectionResetError:
            pass
    serving.wait_log("connection refused.*proxy_protocol")
    assert not serving.lines("connection opened")


def test_half_a_header(behind):
    """Closed at the handshake's deadline; a hundred of them keep nobody else out."""
    serving = behind("--handshake-timeout", "15")
    half = [net.connect(serving.port) for _ in range(100)]
    try:
        for sock in half:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                sock.sendall(SIGNATURE + b"\x21")
        with net.connect(serving.port) as sock:
            sock.sendall(header())
            assert banner(sock) == b"SSH-"
        for sock in half:
            with contextlib.suppress(ConnectionResetError):  # some of it came when nobody read any more
                assert sock.recv(1) == b""
    finally:
        for sock in half:
            sock.close()


@pytest.mark.parametrize("entry, says", [
    ('proxy_protocol = true', "proxy_from"), ('proxy_protocol = true, proxy_from = {}', "proxy_from"),
    ('proxy_from = { "10.0.0.0/8" }', "proxy_protocol"), ('proxy_protocol = true, proxy_from = { "10.0.0.0/33" }', "network 1"),
    ('proxy_protocol = 1, proxy_from = { "10.0.0.0/8" }', "proxy_protocol"),
])
def test_bad_configuration(server, entry, says):
    serving = server(conf=f'listen = {{ {{ address = "127.0.0.1:0", {entry} }} }},', listen=None, wait=False)
    serving.expected_status = 2
    assert serving.wait() == 2
    assert "listen: entry 1" in serving.log() and says in serving.log()


def test_sent_to_a_target(server, client, tmp_path):
    """`forward, {proxy_protocol = true}`: the target hears who is behind the session, then the stream."""
    policy = 'return { on_open = function() return "forward", { proxy_protocol = true } end }'
    serving = server(policy=policy)
    tunnel = client(serving)
    with socket.create_server(("127.0.0.1", 0)) as target:
        with net.socks_connect(tunnel.port, "127.0.0.1", target.getsockname()[1]) as sock:
            sock.sendall(b"hello")
            peer, _ = target.accept()
            with peer:
                got = net.recv_exact(peer, 28 + 5)
    session = serving.call("session.list")["sessions"][0]
    assert got[:16] == SIGNATURE + b"\x21\x11\0\x0c" and got[28:] == b"hello"
    assert got[16:24] == socket.inet_aton("127.0.0.1") * 2
    assert struct.unpack(">HH", got[24:28]) == (session["remote_port"], serving.port)


def test_haproxy_takes_ours(server, client, targets, tmp_path, running_programs):
    """A balancer that wants the header (accept-proxy) takes the one that we send."""
    front = proxies.haproxy(tmp_path, targets.echo, "", accept="accept-proxy")
    running_programs.append(front)
    policy = 'return { on_open = function() return "forward", { proxy_protocol = true } end }'
    tunnel = client(server(policy=policy))
    with net.socks_connect(tunnel.port, "127.0.0.1", front.port) as sock:
        net.ask_echo(sock)
