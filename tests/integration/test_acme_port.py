# SPDX-License-Identifier: MIT OR Apache-2.0
"""Who else comes to the port where a CA asks for proof (threat 69)."""

import socket
import threading

import pytest

from harness import net
from harness.waiting import scaled, wait_until
from test_acme import NAME, acme_server, flags_for, middle, pebble, served, verified, wait_issued  # noqa: F401
from test_tls import run_serve

pytestmark = pytest.mark.part("acme")


def reaches(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except (ConnectionRefusedError, TimeoutError):
        return False
    return True


def ask(port, data):
    with socket.create_connection(("127.0.0.1", port), scaled(20)) as sock:
        sock.sendall(data)
        try:
            return net.recv_all(sock)
        except ConnectionResetError:
            return b"HTTP/1.1 404 "  # it was not read to its end


def test_http_01_among_strangers(middle, acme_server):  # noqa: F811
    """The port is open while a name is being proved: who else comes gets 404, and who was there before stops nobody."""
    ca, there, enough = middle, threading.Event(), threading.Event()

    def hold(request):
        if "/chalz" in request.path.lower():  # the CA comes when all the others are there
            there.wait(60)
        elif "/authz" in request.path.lower() and any("/chalz" in one.path.lower() for one in ca.asked):
            enough.wait(60)

    ca.rule = hold
    serving = acme_server(ca, challenge="http-01")
    wait_until(lambda: reaches(ca.http), what="the port to open")
    crowd = [socket.create_connection(("127.0.0.1", ca.http), scaled(5)) for _ in range(16)]
    there.set()
    assert ask(ca.http, b"GET /.well-known/acme-challenge/x HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    assert ask(ca.http, b"\x16\x03\x01" + bytes(5000)).startswith(b"HTTP/1.1 404 ")
    enough.set()
    wait_issued(serving)
    for sock in crowd:
        sock.close()
    assert not reaches(ca.http)


PROOF = b"GET /.well-known/acme-challenge/"
STRANGE = (PROOF + b"x HTTP/1.1\r\n\r\n", PROOF + b"x HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"hello\r\n\r\n")


@pytest.mark.parametrize("workers", [0, 2])
def test_http_01_by_the_stealth_side(pebble, acme_server, workers):  # noqa: F811
    """Where port 80 leads to the stealth port: it answers the CA, and is nginx's TLS port to all others, all the time."""
    ca = pebble(one_port=True, PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="3")
    serving = acme_server(ca, NAME, "127.0.0.1", challenge="http-01", http="stealth", stealth=True, workers=workers)
    asked = 0

    def issued():
        nonlocal asked
        for request in STRANGE:
            assert ask(ca.tls, request).startswith(b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\n"), request
            asked += 1
        with socket.create_connection(("127.0.0.1", ca.tls), scaled(20)) as sock:  # may be a CA's, and then it is not
            sock.sendall(PROOF[:20])
            sock.sendall(b"else HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"The plain HTTP request was sent to HTTPS port" in net.recv_all(sock)
        return serving.call("acme.status")["self_signed"] is False

    wait_until(issued, 60, "a certificate")
    assert asked >= len(STRANGE) and verified(ca, serving.port)
    assert issued()


def test_stealth_answers_http_01_alone(keys, pebble, tmp_path):  # noqa: F811
    """--acme-http stealth without --stealth is an error at start."""
    ca = pebble()
    done = run_serve(keys, *flags_for(ca.url, ca.authority.path("ca.pem"), tmp_path / "acme", challenge="http-01", http="stealth"))
    assert done.returncode == 2 and "acme_http: stealth means nothing without --stealth" in done.stderr


def test_t69_port_of_http_01_is_taken(pebble, acme_server):  # noqa: F811
    """Said in the log, `status` and metrics, tried again; and then it works."""
    ca = pebble()
    taken = socket.create_server(("127.0.0.1", ca.http))
    serving = acme_server(ca, challenge="http-01")
    wait_until(lambda: serving.metric("alknet_acme_failures") > 0, 20, "a failure")
    status = serving.call("acme.status")
    assert status["self_signed"] and "cannot be listened on: Address already in use" in status["helper"]["last_error"]
    serving.wait_log(r'level=error .*msg="no certificate by ACME" error="acme_http: .*cannot be listened on')
    assert served(serving.port)
    taken.close()
    wait_until(lambda: serving.call("acme.status")["self_signed"] is False, 60, "a certificate")
    wait_until(lambda: serving.metric("alknet_acme_failures") == 0, what="the failures to be over")
    wait_issued(serving)
