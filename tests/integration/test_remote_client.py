# SPDX-License-Identifier: MIT OR Apache-2.0
"""--remote-forward of alknet connect: against stock sshd, against ourselves, and against servers that mean harm."""

import select
import socket
import threading
import time

import pytest

from harness import net, procs, sshwire
from harness.net import free_port
from harness.remote import held_port, listening, talk
from harness.sshhost import Host
from harness.sshwire import string, u32
from harness.waiting import patient, scaled, wait_until

pytestmark = pytest.mark.usefixtures("libssh_forgets")


def test_echo_and_half_close(far, client, targets):
    """Port 0 is answered with a port; bytes and ends of input go both ways."""
    program = client(far[0], "--remote-forward", f"{far[2]}:127.0.0.1:{targets.sink}", user=far[1], socks5="none")
    port = held_port(program)
    assert listening(port) == {"127.0.0.1", "::1"} or listening(port) == {"127.0.0.1"}
    with net.connect(port) as sock:
        sock.sendall(b"x" * 300000)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_all(sock).startswith(b"300000 ")


def test_unix_target_and_several(far, client, targets):
    ports = [free_port(), free_port()]
    program = client(
        far[0], "--remote-forward", f"{ports[0]}:{targets.unix}", "--remote-forward", f"127.0.0.1:{ports[1]}:127.0.0.1:{targets.echo}",
        user=far[1],
    )
    assert held_port(program, 0) == ports[0] and held_port(program, 1) == ports[1]
    for port in ports:
        assert talk(port, b"there and back")


def test_target_that_refuses(far, client, targets):
    """The connection is closed, the forward stays."""
    program = client(far[0], "--remote-forward", f"{far[2]}:127.0.0.1:{targets.refused}", user=far[1], socks5="none")
    port = held_port(program)
    for _ in range(3):
        with net.connect(port) as sock:
            assert net.recv_all(sock) == b""
    assert listening(port)


def test_port_that_is_taken(far, client, targets):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        program = client(far[0], "--remote-forward", f"127.0.0.1:{port}:127.0.0.1:{targets.echo}", user=far[1])
        program.wait_log(rf"alknet: --remote-forward 127.0.0.1:{port}:\S+: the server refused to listen")
        assert program.running()


def test_addresses_of_a_port(far, client, targets, ipv6):
    """Two forwards of one port: whose a connection is, its address says."""
    running, user, _ = far
    port = free_port()
    program = client(
        running, "--remote-forward", f"127.0.0.1:{port}:127.0.0.1:{targets.sink}", "--remote-forward", f"[::1]:{port}:127.0.0.1:{targets.echo}",
        user=user, socks5="none",
    )
    assert held_port(program, 0) == held_port(program, 1) == port
    for _ in range(2):
        assert talk(port, b"there and back", "::1")
        with net.connect(port) as sock:
            sock.sendall(b"x" * 1000)
            sock.shutdown(socket.SHUT_WR)
            assert net.recv_all(sock).startswith(b"1000 ")


# Servers that mean harm (THREATS 31, the client's side).


@pytest.fixture
def host(keys, client, targets):
    """A hostile server; the client wants ports 4000 and any, and has been told neither."""
    with Host(keys.path("host")) as made:
        thread = threading.Thread(target=made.accept)
        thread.start()
        target = f"127.0.0.1:{targets.echo}"
        made.client = client(made.port, "--remote-forward", f"4000:{target}", "--remote-forward", f"0:{target}")
        thread.join(scaled(20))
        made.client.expected_status = None
        yield made
        assert made.client.popen.poll() in (None, 0, 1), "the client crashed"


def asked(host):
    """The next forward that the client asks for: host and port."""
    fields = sshwire.Reader(host.expect(sshwire.GLOBAL_REQUEST)[1:])
    assert fields.string() == b"tcpip-forward" and fields.byte() == 1
    return fields.string(), fields.u32()


def grant(host, port):
    """Both are asked for, one after the other, and granted."""
    assert asked(host) == (b"localhost", 4000)
    host.send(bytes([sshwire.REQUEST_SUCCESS]))
    assert asked(host) == (b"localhost", 0)
    host.send(bytes([sshwire.REQUEST_SUCCESS]) + u32(port))


def back(host, number, port, name="localhost"):
    host.send(
        bytes([sshwire.CHANNEL_OPEN]) + string("forwarded-tcpip") + u32(number) + u32(1 << 20) + u32(32768)
        + string(name) + u32(port) + string("192.0.2.1") + u32(5)
    )
    return host.expect(sshwire.OPEN_FAILURE, sshwire.OPEN_CONFIRMATION)[0] == sshwire.OPEN_CONFIRMATION


def test_t31_port_that_nobody_asked_for(host):
    grant(host, 5000)
    assert held_port(host.client, 1) == 5000
    assert back(host, 1, 4000) and back(host, 2, 5000, "some other spelling")
    for number, port in enumerate((22, 0, 4001, 65535), 3):
        assert not back(host, number, port)


def test_t31_before_anything_is_granted(host):
    assert asked(host) == (b"localhost", 4000)
    assert not back(host, 1, 5000)
    host.send(bytes([sshwire.REQUEST_FAILURE]))
    host.client.wait_log(r"--remote-forward 4000:\S+: the server refused to listen")
    assert not back(host, 2, 4000)


def test_t31_addresses_of_a_port(keys, client):
    """The forward whose address it is, also where the server writes it in another way, or none."""
    flags, listeners = [], {}
    for name in ("127.0.0.2", "localhost", "*", "192.0.2.7"):
        listeners[name] = socket.create_server(("127.0.0.1", 0))
        listeners[name].settimeout(patient(10))
        flags += ["--remote-forward", f"{name}:4000:127.0.0.1:{listeners[name].getsockname()[1]}"]
    with Host(keys.path("host")) as host:
        thread = threading.Thread(target=host.accept)
        thread.start()
        program = client(host.port, *flags)
        thread.join(scaled(20))
        program.expected_status = None
        for name in (b"127.0.0.2", b"localhost", b""):
            assert asked(host) == (name, 4000)
            host.send(bytes([sshwire.REQUEST_SUCCESS]))
        assert asked(host) == (b"192.0.2.7", 4000)  # not answered yet
        spellings = [
            ("127.0.0.2", "127.0.0.2"), ("localhost", "localhost"), ("LocalHost", "localhost"), ("127.0.0.1", "localhost"), ("::1", "localhost"),
            ("", "*"), ("0.0.0.0", "*"), ("::", "*"), ("*", "*"), ("192.0.2.7", "192.0.2.7"),
        ]
        for number, (written, meant) in enumerate(spellings):
            assert back(host, number, 4000, written), written
            listeners[meant].accept()[0].close()
        assert not back(host, 50, 4000, "192.0.2.8"), "it may be any of four"
        assert program.running()
    for listener in listeners.values():
        listener.close()


def test_t31_storm_of_channels(keys, client, targets):
    """More channels than there may be: the rest is refused at once, whatever their target does."""
    with Host(keys.path("host")) as host:
        thread = threading.Thread(target=host.accept)
        thread.start()
        program = client(host.port, "--max-channels", "50", "--remote-forward", f"4000:127.0.0.1:{targets.blackhole}")
        thread.join(scaled(20))
        program.expected_status = None
        assert asked(host) == (b"localhost", 4000)
        host.send(bytes([sshwire.REQUEST_SUCCESS]))
        assert held_port(program) == 4000
        for number in range(1500):
            host.send(
                bytes([sshwire.CHANNEL_OPEN]) + string("forwarded-tcpip") + u32(number) + u32(1 << 20) + u32(32768)
                + string("localhost") + u32(4000) + string("x" * 1000) + u32(5)
            )
        for _ in range(1450):
            assert host.expect(sshwire.OPEN_FAILURE, sshwire.OPEN_CONFIRMATION)[0] == sshwire.OPEN_FAILURE
        assert program.running()


@pytest.mark.parametrize("port", [b"", u32(0), u32(70000), u32(2**32 - 1), b"\0"])
def test_t31_port_that_the_server_does_not_say(host, port):
    """An answer without a port: the forward takes the first port that comes."""
    assert asked(host) == (b"localhost", 4000)
    host.send(bytes([sshwire.REQUEST_FAILURE]))
    assert asked(host) == (b"localhost", 0)
    host.send(bytes([sshwire.REQUEST_SUCCESS]) + port)
    host.client.wait_log("listens on a port that it did not name")
    assert back(host, 1, 7777)
    assert held_port(host.client, 0) == 7777
    assert not back(host, 2, 7778)


def test_port_among_other_packets(host):
    """sshd says which host keys it has right before its answer, and anything may come behind it."""
    assert asked(host) == (b"localhost", 4000)
    host.send(bytes([sshwire.REQUEST_SUCCESS]))
    assert asked(host) == (b"localhost", 0)
    keys = bytes([sshwire.GLOBAL_REQUEST]) + string("hostkeys-00@openssh.com") + b"\0" + string("x" * 9000)
    debug = bytes([sshwire.IGNORE]) + string(b"")
    host.raw(b"".join(map(host.pack, [keys, debug, bytes([sshwire.REQUEST_SUCCESS]) + u32(5001), debug, keys])))
    assert held_port(host.client, 1) == 5001


def test_t31_answer_behind_the_first_connection(host):
    """The port is not looked for in another packet's bytes."""
    assert asked(host) == (b"localhost", 4000)
    host.send(bytes([sshwire.REQUEST_SUCCESS]))
    assert asked(host) == (b"localhost", 0)
    opening = (
        bytes([sshwire.CHANNEL_OPEN]) + string("forwarded-tcpip") + u32(9) + u32(1 << 20) + u32(32768)
        + string("localhost") + u32(5001) + string("192.0.2.1") + u32(5)
    )
    host.raw(host.pack(bytes([sshwire.REQUEST_SUCCESS]) + u32(5001)) + host.pack(opening))
    assert host.expect(sshwire.OPEN_FAILURE, sshwire.OPEN_CONFIRMATION)[0] == sshwire.OPEN_CONFIRMATION
    assert held_port(host.client, 1) == 5001


def test_keepalives_and_forwards_share_a_place(keys, client, targets):
    """The library has one place for answers: a keepalive's is not taken for a forward's, nor the other way round."""
    with Host(keys.path("host")) as host:
        thread = threading.Thread(target=host.accept)
        thread.start()
        target = f"127.0.0.1:{targets.echo}"
        program = client(host.port, "--keepalive", "4", "--remote-forward", f"0:{target}", "--remote-forward", f"4000:{target}")
        thread.join(scaled(20))
        program.expected_status = None
        assert asked(host) == (b"localhost", 0)
        host.send(bytes([sshwire.REQUEST_SUCCESS]) + u32(6000))
        assert asked(host) == (b"localhost", 4000)
        # Silence, and no keepalive: another answer is waited for. Then that answer, and keepalives again.
        wait_until(silence(host), 20, "more than a keepalive's time")
        host.send(bytes([sshwire.REQUEST_FAILURE]))
        program.wait_log("--remote-forward 4000:.*: the server refused")
        for _ in range(2):
            fields = sshwire.Reader(host.expect(sshwire.GLOBAL_REQUEST)[1:])
            assert fields.string() == b"keepalive@openssh.com"
            host.send(bytes([sshwire.REQUEST_FAILURE]))
        assert held_port(program) == 6000


def silence(host):
    """True once the client was asked for nothing for 1.3 s."""
    start = time.monotonic()

    def look():
        assert not select.select([host.sock], [], [], 0)[0]
        return time.monotonic() - start > 1.3

    return look


@pytest.mark.parametrize("spec", ["", "80", "/tmp/x:host:1", "80:alknet-control:1", "70000:host:1", "80:host:0"])
def test_bad_specs(keys, tmp_path, spec):
    """Told at start, with the option's name: status 2."""
    argv = [procs.alknet(), "connect", "--server", "127.0.0.1:1", "--identity", keys.path("user"), "--remote-forward", spec]
    program = procs.Program(argv, tmp_path / "log")
    assert program.wait(10) == 2
    assert "--remote-forward" in program.log()
