# SPDX-License-Identifier: MIT OR Apache-2.0
"""Certificates by ACME, from pebble: every challenge, renewal under load, and a CA that misbehaves (threat 69)."""

import os
import socket
import ssl
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import pytest

from harness import net, procs
from harness.pebble import Pebble
from harness.waiting import scaled, wait_until

NAME = "tunnel.example"


@pytest.fixture
def pebble(tmp_path):
    made = []

    def start(**more):
        made.append(Pebble(tmp_path / f"pebble{len(made)}", **more))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def flags_for(url, ca_file, state, *names, challenge=None, http=None):
    flags = ["--transport", "tls", "--acme-directory", url, "--acme-ca-file", ca_file, "--acme-state-dir", state]
    for name in names or (NAME,):
        flags += ["--acme-domain", name]
    if challenge:
        flags += ["--acme-challenge", challenge]
    return [*flags, *(["--acme-http", f"127.0.0.1:{http}"] if http else [])]


@pytest.fixture
def acme_server(server, tmp_path):
    def start(ca, *names, challenge=None, **more):
        flags = flags_for(ca.url, ca.authority.path("ca.pem"), tmp_path / "acme", *names, challenge=challenge, http=ca.http)
        return server(*flags, listen=f"127.0.0.1:{ca.tls}", **more)

    return start


def served(port, name=NAME):
    """The certificate as it is shown, whoever signed it."""
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", port), scaled(20)) as raw, context.wrap_socket(raw, server_hostname=name) as tls:
        return tls.getpeercert(binary_form=True)


def verified(ca, port, name=NAME):
    context = ssl.create_default_context(cafile=str(ca.root))
    with socket.create_connection(("127.0.0.1", port), scaled(20)) as raw, context.wrap_socket(raw, server_hostname=name) as tls:
        return tls.getpeercert()


def wait_issued(serving, times=1, timeout=60):
    def issued():
        helper = serving.call("acme.status")["helper"]
        assert helper is None or helper["failures"] == 0, helper
        return helper is not None and helper["issued"] >= times

    wait_until(issued, timeout, "a certificate")
    return serving.call("acme.status")


# --- it works


@pytest.mark.parametrize("challenge", ["tls-alpn-01", "http-01"])
@pytest.mark.parametrize("workers", [0, 2])
def test_certificate(pebble, acme_server, tmp_path, challenge, workers):
    ca = pebble()
    names = (NAME, "second.example", "127.0.0.1")
    serving = acme_server(ca, *names, challenge=challenge, workers=workers)
    status = wait_issued(serving)
    assert (status["names"], status["self_signed"], status["challenge"]) == (list(names), False, challenge)
    for name in names:
        assert (("DNS", NAME), ("DNS", "second.example")) == verified(ca, serving.port, name)["subjectAltName"][:2]
    life = status["not_after"] - time()
    assert life / 2 < status["helper"]["next"] - time() < life * 3 / 4
    for name in ("account.key", "certificate.pem"):
        assert stat.S_IMODE(os.stat(tmp_path / "acme" / name).st_mode) == 0o600
    assert sorted(os.listdir(tmp_path / "acme")) == ["account.key", "certificate.pem"]
    assert serving.metric("alknet_acme_self_signed") == 0
    assert serving.metric("alknet_acme_certificate_expiry_seconds") == status["not_after"]
    # The port of http-01 is closed to the world when there is nothing to prove.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ca.http), 5)


def test_certificate_is_kept(pebble, acme_server):
    ca = pebble()
    serving = acme_server(ca)
    wait_issued(serving)
    first = served(serving.port)
    serving.finish()
    ca.stop()
    again = acme_server(ca)
    assert served(again.port) == first
    wait_until(lambda: again.call("acme.status")["helper"], what="the helper")
    assert again.call("acme.status")["helper"]["issued"] == 0


def test_renewal_under_load(pebble, acme_server, client, targets):
    ca = pebble()
    serving = acme_server(ca, NAME, "127.0.0.1", workers=2)
    wait_issued(serving)
    connecting = client(serving, "--transport", "tls", env=procs.environment(SSL_CERT_FILE=str(ca.root)))
    ended, moved = threading.Event(), []

    def load():
        with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
            while not ended.is_set():
                sock.sendall(b"x" * 4096)
                got = 0
                while got < 4096:
                    got += len(sock.recv(4096)) or 10**9
                moved.append(got)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        before = served(serving.port)
        session = serving.sessions()[0]["id"]
        for key in ({}, {"key": "new"}):
            account = (ca.directory.parent / "acme" / "account.key").read_text()
            assert serving.call("acme.renew", 90, **key) == {"renewed": True}
            after = served(serving.port)
            assert after != before
            before = after
            assert ((ca.directory.parent / "acme" / "account.key").read_text() != account) == bool(key)
        seen = len(moved)
        wait_until(lambda: len(moved) > seen + 10, what="the session to go on")
        assert serving.sessions()[0]["id"] == session
    finally:
        ended.set()
        thread.join()
    assert max(moved) == 4096
    # The CA takes the new key, and only that.
    assert serving.call("acme.renew", 90) == {"renewed": True}


def test_reload_keeps_the_certificate(pebble, acme_server):
    ca = pebble()
    serving = acme_server(ca)
    wait_issued(serving)
    before = served(serving.port)
    serving.call("reload")
    assert served(serving.port) == before
    wait_until(lambda: serving.call("acme.status")["helper"], what="the next helper")
    assert serving.call("acme.renew", 90) == {"renewed": True}
    assert served(serving.port) != before


# --- threat 69


def test_t69_nonces_are_refused(pebble, acme_server):
    ca = pebble(nonce_reject=90)
    wait_issued(acme_server(ca), timeout=120)


def test_t69_proof_fails(pebble, acme_server, server, tmp_path):
    """The CA asks at a port where nobody is: a self-signed certificate is served, and it is said."""
    ca = pebble()
    flags = flags_for(ca.url, ca.authority.path("ca.pem"), tmp_path / "acme", NAME)
    serving = server(*flags)
    wait_until(lambda: serving.metric("alknet_acme_failures") > 0, 60, "a failure")
    status = serving.call("acme.status")
    assert status["self_signed"] and "could not check tunnel.example by tls-alpn-01" in status["helper"]["last_error"]
    assert 30 < status["helper"]["next"] - time() < 61
    assert served(serving.port)
    serving.wait_log(r'level=error .*msg="no certificate by ACME"')
    with pytest.raises(procs.AdminError, match="could not check"):
        serving.call("acme.renew", 60)


def test_t69_ca_is_down(pebble, acme_server):
    """The old certificate stays in use."""
    ca = pebble()
    serving = acme_server(ca)
    wait_issued(serving)
    before = served(serving.port)
    ca.stop()
    with pytest.raises(procs.AdminError, match="(?i)connect"):
        serving.call("acme.renew", 60)
    assert served(serving.port) == before
    assert serving.metric("alknet_acme_failures") == 1
    serving.wait_log(r'msg="no certificate by ACME" .*served="the one before"')


class Failing:
    """A CA that answers every request with `status` and says when to come again."""

    def __init__(self, directory, status, headers):
        from harness.tlscerts import Authority

        directory.mkdir()
        self.authority, self.http, self.asked = Authority(directory), net_port(), 0
        cert, key = self.authority.issue("failing", "localhost")
        failing = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                failing.asked += 1
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}/dir"
        self.tls = 0
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def net_port():
    from harness.nginx import free_port

    return free_port()


@pytest.mark.parametrize("status", [429, 503])
def test_t69_retry_after(acme_server, tmp_path, status):
    ca = Failing(tmp_path / "ca", status, {"Retry-After": "7200"})
    try:
        serving = acme_server(ca)
        wait_until(lambda: serving.metric("alknet_acme_failures") > 0, 30, "a failure")
        helper = serving.call("acme.status")["helper"]
        assert 7100 < helper["next"] - time() < 7201
        assert f"it answers {status}" in helper["last_error"]
        assert ca.asked == 1
    finally:
        ca.stop()


def test_t69_helper_dies(pebble, acme_server):
    ca = pebble()
    serving = acme_server(ca, workers=1)
    wait_issued(serving)
    before = served(serving.port)
    comm = lambda pid: open(f"/proc/{pid}/comm", encoding="ascii").read().strip()  # noqa: E731
    helper = next(pid for pid in procs.children(serving.pid) if "acme" in comm(pid))
    os.kill(helper, 9)
    serving.wait_log('msg="alknet-acme has ended"')
    assert served(serving.port) == before
    wait_until(lambda: serving.call("acme.status")["running"], what="the helper")
    assert serving.call("acme.renew", 60) == {"renewed": True}


def test_t69_state_is_damaged(pebble, acme_server, tmp_path):
    """A certificate that is cut off, or of another key, is said and got anew; half a file is never left."""
    state = tmp_path / "acme"
    state.mkdir(mode=0o700)
    (state / "certificate.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB")
    (state / ".certificate.pem.new").write_text("half")
    serving = acme_server(pebble())
    serving.wait_log(r'level=error msg="the certificate in acme_state_dir cannot be used')
    wait_issued(serving)
    assert "BEGIN PRIVATE KEY" in (state / "certificate.pem").read_text()
    assert sorted(os.listdir(state)) == ["account.key", "certificate.pem"]


# --- a sentence at start


def refused(keys, *flags):
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", keys.authorized, "--listen", "127.0.0.1:0", *flags]
    done = subprocess.run(
        [str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=scaled(20), env=procs.environment(), check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_start_is_refused(keys, tmp_path):
    state, shared, plain = tmp_path / "acme", tmp_path / "shared", tmp_path / "plain"
    state.mkdir(mode=0o700)
    shared.mkdir()
    shared.chmod(0o777)
    plain.write_text("nothing")
    base = ["--transport", "tls", "--acme-directory", "https://127.0.0.1:1/dir"]
    for flags, why in (
        (["--acme-domain", "*.example"], "a wildcard needs a proof by DNS"),
        (["--acme-domain", "a b"], "neither a host name nor an IP address"),
        (["--acme-domain", "ok.example", "--acme-email", "me"], "is not an address"),
        (["--acme-domain", "ok.example", "--acme-ca-file", plain], "holds no PEM certificate"),
        (["--acme-domain", "ok.example", "--acme-directory", "http://127.0.0.1/dir"], "does not begin with https://"),
        (["--acme-domain", "ok.example", "--acme-state-dir", shared], "can be written by others"),
        (["--acme-domain", "ok.example", "--acme-state-dir", plain], "is not a directory"),
        (["--acme-domain", "ok.example", "--acme-state-dir", "/proc/acme"], "cannot be made"),
        (["--acme-domain", "ok.example", "--tls-cert", plain], "does not go with tls_cert"),
    ):
        assert why in refused(keys, *base, "--acme-state-dir", state, *flags), flags
    (state / "account.key").write_text("no key")
    assert "account.key is not an ECDSA P-256 key" in refused(keys, *base, "--acme-state-dir", state, "--acme-domain", "ok.example")


def test_status_without_acme(server):
    serving = server()
    with pytest.raises(procs.AdminError, match="not loaded"):
        serving.call("acme.status")
