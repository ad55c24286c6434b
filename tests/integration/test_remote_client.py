# SPDX-License-Identifier: MIT OR Apache-2.0
"""--remote-forward of alknet connect: against stock sshd, against ourselves, and against servers that mean harm."""

import socket
import threading

import pytest

from harness import net, sshwire
from harness.remote import free_port, held_port, listening, talk
from harness.sshhost import Host
from harness.sshwire import string, u32
from harness.waiting import scaled, wait_until


@pytest.fixture(params=["sshd"])
def far(request, server):
    """A server for `alknet connect`, and the user that it lets in."""
    if request.param == "alknet":
        return server(), "tester"
    running = request.getfixturevalue("sshd")()
    return running, running.user


def test_echo_and_half_close(far, client, targets):
    """Port 0 is answered with a port; bytes and ends of input go both ways."""
    program = client(far[0], "--remote-forward", f"0:127.0.0.1:{targets.sink}", user=far[1], socks5="none")
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
    program = client(far[0], "--remote-forward", f"0:127.0.0.1:{targets.refused}", user=far[1], socks5="none")
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
