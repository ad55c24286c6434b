# SPDX-License-Identifier: MIT OR Apache-2.0
"""alknet connect against a server that means harm: the client's half of THREATS 20 to 22 and 33."""

import socket
import threading
import time

import pytest

from harness import net, procs, sshwire
from harness.sshhost import Host
from harness.sshwire import string, u32
from harness.waiting import scaled, wait_until


@pytest.fixture
def host(keys, client):
    """A hostile server with alknet connect on it."""
    with Host(keys.path("host")) as made:
        thread = threading.Thread(target=made.accept)
        thread.start()
        made.client = client(made.port)
        thread.join(scaled(20))
        # When the server goes the client may end as it likes, but not by a crash.
        made.client.expected_status = None
        yield made
        assert made.client.popen.poll() in (None, 0, 1), "the client crashed"


def ask(host):
    """An application's SOCKS5 request under way, up to the server's answer."""
    sock = net.connect(host.client.port)
    sock.sendall(b"\x05\x01\x00\x05\x01\x00" + net.socks_address("somewhere") + b"\0\7")
    assert net.recv_exact(sock, 2) == b"\x05\x00"
    return sock


def accepted(sock):
    reply = net.recv_exact(sock, 4)
    net.recv_exact(sock, {1: 6, 4: 18}[reply[3]])
    return reply[1] == 0


def calm(program):
    """For a second it neither burns CPU nor grows, or it is gone."""
    try:
        start, used, held = time.monotonic(), procs.cpu_seconds(program.pid), procs.memory(program.pid)
        wait_until(lambda: time.monotonic() - start > 1, 5, "a second of looking on")
        return procs.cpu_seconds(program.pid) - used < 0.3 and procs.memory(program.pid) - held < 4 << 20
    except (ProcessLookupError, FileNotFoundError):
        return not program.running()


def test_a_kind_server_first(host):
    """The hand-made server works where it means no harm."""
    with ask(host) as sock:
        number, _, _ = host.asked()
        host.confirm(number, 5)
        assert accepted(sock)
        sock.sendall(b"up")
        fields = sshwire.Reader(host.expect(sshwire.DATA)[1:])
        assert fields.u32() == 5 and fields.string() == b"up"
        host.data(number, b"down")
        assert net.recv_exact(sock, 4) == b"down"
        host.send(bytes([sshwire.EOF]) + u32(number))
        assert sock.recv(1) == b""


def test_a_close_is_answered_to_a_server_that_says_no_more(host):
    """The client lets its answer wait for something to go with, but not for ever; a window that was used likewise."""
    with ask(host) as sock:
        number, _, _ = host.asked()
        host.confirm(number, 5)
        assert accepted(sock)
        host.data(number, b"x")
        assert net.recv_exact(sock, 1) == b"x"
        fields = sshwire.Reader(host.expect(sshwire.WINDOW_ADJUST)[1:])
        assert fields.u32() == 5 and fields.u32() > 1_000_000
        host.send(bytes([sshwire.EOF]) + u32(number))
        host.send(bytes([sshwire.CLOSE]) + u32(number))
        while (payload := host.expect(sshwire.EOF, sshwire.CLOSE))[0] == sshwire.EOF:
            pass
        assert sshwire.Reader(payload[1:]).u32() == 5


@pytest.mark.parametrize("packet", [0, 1, 9, 10, 11, 2**32 - 1])
@pytest.mark.parametrize("window", [0, 100000, 2**32 - 1])
def test_t21_packet_size_of_a_server(host, packet, window):
    """A server that grants packets of no size cannot make the client spin."""
    with ask(host) as sock:
        number, _, _ = host.asked()
        host.confirm(number, 5, window, packet)
        sock.settimeout(0.5)
        try:
            sock.sendall(b"x" * 50000)
        except OSError:
            pass
        # What the library cannot see ends the process, soon; spinning for ever is what must not be.
        wait_until(lambda: not host.client.running() or calm(host.client), 40, "the client to be calm, or gone")


def test_t22_server_that_ignores_the_window(host, sanitized):
    """More than the window, at an application that does not read: the session ends, memory is bounded."""
    before = procs.memory(host.client.pid)
    with ask(host) as sock:
        number, _, _ = host.asked()
        host.confirm(number, 5)
        assert accepted(sock)
        with pytest.raises(sshwire.Closed):
            for _ in range(4000):
                host.data(number, b"\0" * 32000)
            host.wait_closed()
            raise sshwire.Closed
    if host.client.running():
        assert procs.memory(host.client.pid) - before < (96 << 20 if sanitized else 16 << 20)


@pytest.mark.parametrize("kind", ["session", "x11", "forwarded-tcpip", "auth-agent@openssh.com", "direct-tcpip", "y" * 500])
def test_channels_that_a_server_opens(host, kind):
    """The client asked for none: all are refused."""
    host.send(bytes([sshwire.CHANNEL_OPEN]) + string(kind) + u32(3) + u32(1 << 20) + u32(32768) + string("127.0.0.1") + u32(22) + string("x") + u32(1))
    answer = host.expect(sshwire.OPEN_FAILURE, sshwire.OPEN_CONFIRMATION)
    assert answer[0] == sshwire.OPEN_FAILURE
    with ask(host) as sock:
        number, _, _ = host.asked()
        host.confirm(number, 5)
        assert accepted(sock)


def test_requests_of_a_server(host):
    for name in ("tcpip-forward", "keepalive@openssh.com", "hostkeys-00@openssh.com", "x" * 2000):
        host.send(bytes([sshwire.GLOBAL_REQUEST]) + string(name) + b"\1" + string("127.0.0.1") + u32(0))
        host.expect(sshwire.REQUEST_FAILURE, sshwire.REQUEST_SUCCESS)
    with ask(host) as sock:
        number, _, _ = host.asked()
        host.confirm(number, 5)
        assert accepted(sock)


@pytest.mark.parametrize(
    "payload",
    [
        bytes([sshwire.OPEN_CONFIRMATION]) + u32(77) + u32(1) * 3,
        bytes([sshwire.OPEN_FAILURE]) + u32(77) + u32(1) + string("") * 2,
        bytes([sshwire.DATA]) + u32(77) + string("x"),
        bytes([sshwire.CLOSE]) + u32(77),
        bytes([sshwire.WINDOW_ADJUST]) + u32(77) + u32(2**32 - 1),
        bytes([sshwire.OPEN_CONFIRMATION]),
        bytes([sshwire.AUTH_SUCCESS]),
        bytes([sshwire.REQUEST_FAILURE]),
        bytes([sshwire.KEXINIT]) + b"\0" * 5,
        bytes([sshwire.DISCONNECT]) + u32(11) + string("bye\x1b[2J\n now") + string(""),
        bytes([sshwire.DEBUG]) + b"\1" + string("\x1b]0;evil\x07") + string(""),
    ],
)
def test_nonsense_of_a_server(host, payload):
    """The session may end; the client does not crash, and nothing reaches the terminal raw."""
    with ask(host):
        host.asked()
        host.send(payload)
        try:
            host.send(bytes([sshwire.GLOBAL_REQUEST]) + string("still?") + b"\1")
            host.expect(sshwire.REQUEST_FAILURE, sshwire.REQUEST_SUCCESS)
        except sshwire.Closed:
            pass
    assert calm(host.client)
    assert "\x1b" not in host.client.log()


def test_refusal_with_a_reason(host):
    """RFC 4254's reasons in RFC 1928's words; the text is not believed to be printable."""
    for reason, reply in ((1, {2}), (2, {1, 4, 5}), (3, {1, 7}), (4, {1}), (99, {1})):
        with ask(host) as sock:
            number, _, _ = host.asked()
            host.send(bytes([sshwire.OPEN_FAILURE]) + u32(number) + u32(reason) + string("no\x1b[2J") + string(""))
            got = net.recv_exact(sock, 4)[1]
            assert got in reply, f"reason {reason} gave reply {got}"


def test_data_after_eof_and_close(host):
    with ask(host) as sock:
        number, _, _ = host.asked()
        host.confirm(number, 5)
        assert accepted(sock)
        host.send(bytes([sshwire.EOF]) + u32(number))
        host.data(number, b"late")
        host.send(bytes([sshwire.CLOSE]) + u32(number))
        host.data(number, b"later")
        try:
            net.recv_all(sock)
        except ConnectionResetError:
            pass
    assert calm(host.client)


def test_words_for_a_terminal(keys, tmp_path):
    """Why an open failed is the server's text: nothing of it moves a cursor or begins a line on our stderr."""
    with Host(keys.path("host")) as host:
        argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{host.port}", "--identity", keys.path("user")]
        argv += ["--known-hosts", keys.known_hosts(tmp_path / "k", host.port), "--stdio", "somewhere:7"]
        program = procs.Client(argv, tmp_path / "log")
        try:
            host.accept()
            number, _, _ = host.asked()
            text = b"\x1b]0;title\x07\x1b[31mred\nalknet: connected to bank.example \xff" + b"\x1b" * 500
            host.send(bytes([sshwire.OPEN_FAILURE]) + u32(number) + u32(2) + string(text) + string("en"))
            assert program.wait(10) == 1
        finally:
            program.kill()
    raw = (tmp_path / "log").read_bytes()
    assert rb"\x1b]0;title\x07\x1b[31mred\x0aalknet: connected to bank.example \xff\x1b" in raw
    assert raw.count(b"\n") == 1 and all(byte in b"\n" or 0x20 <= byte < 0x7f for byte in raw), raw


def test_wrong_proof_of_the_host_key(keys, tmp_path):
    """A server that cannot sign with its key is no server: status 1, before any login."""
    with Host(keys.path("host")) as host:
        host.key = sshwire.load_key(keys.path("stranger"))
        known = keys.known_hosts(tmp_path / "k", host.port)
        argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{host.port}", "--identity", keys.path("user"), "--known-hosts", known]
        program = procs.Client([*argv, "--socks5", "127.0.0.1:0"], tmp_path / "log")
        try:
            with pytest.raises((sshwire.Closed, socket.timeout)):
                host.accept()
            assert program.wait(10) == 1
        finally:
            program.kill()
        assert "SOCKS5" not in program.log()
