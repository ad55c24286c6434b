# SPDX-License-Identifier: MIT OR Apache-2.0
"""Certificates by ACME, from pebble: every challenge, renewal under load, and a CA that misbehaves (threat 69)."""

import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import pytest

from harness import net, procs
from harness.acme_middle import Answer, Middle, http_date, problem
from harness.pebble import Pebble
from harness.waiting import scaled, wait_until
from test_upgrade import upgradable  # noqa: F401

pytestmark = pytest.mark.part("acme")

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


@pytest.fixture
def middle(pebble, tmp_path):
    """A CA whose answers the test can spoil."""
    made = Middle(tmp_path / "middle", pebble())
    yield made
    made.stop()


def flags_for(url, ca_file, state, *names, challenge=None, http=None):
    flags = ["--transport", "tls", "--acme-directory", url, "--acme-ca-file", ca_file, "--acme-state-dir", state]
    for name in names or (NAME,):
        flags += ["--acme-domain", name]
    if challenge:
        flags += ["--acme-challenge", challenge]
    return [*flags, *(["--acme-http", http if http == "stealth" else f"127.0.0.1:{http}"] if http else [])]


@pytest.fixture
def acme_server(server, tmp_path):
    def start(ca, *names, challenge=None, http=None, stealth=False, **more):
        flags = flags_for(ca.url, ca.authority.path("ca.pem"), tmp_path / "acme", *names, challenge=challenge, http=http or ca.http)
        return server(*flags, *(["--stealth"] if stealth else []), listen=f"127.0.0.1:{ca.tls}", **more)

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


def comm(pid):
    with open(f"/proc/{pid}/comm", encoding="ascii") as file:
        return file.read().strip()


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


def test_bundle_of_authorities(pebble, server, tmp_path):
    """acme_ca_file may be a system's whole bundle."""
    ca = pebble()
    bundle = tmp_path / "bundle.pem"
    other = ca.root.read_text()
    bundle.write_text(other * (225_000 // len(other)) + open(ca.authority.path("ca.pem"), encoding="ascii").read())
    serving = server(*flags_for(ca.url, bundle, tmp_path / "acme"), listen=f"127.0.0.1:{ca.tls}")
    wait_issued(serving)


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

    def the_one():
        """The session that lasts: those of who only looked at the certificate go."""
        wait_until(lambda: len(serving.sessions()) == 1, what="the other sessions to be gone")
        return serving.sessions()[0]["id"]

    thread = threading.Thread(target=load)
    thread.start()
    try:
        before = served(serving.port)
        session = the_one()
        for key in ({}, {"key": "new"}):
            account = (ca.directory.parent / "acme" / "account.key").read_text()
            assert serving.call("acme.renew", 90, **key) == {"renewed": True}
            after = served(serving.port)
            assert after != before
            before = after
            assert ((ca.directory.parent / "acme" / "account.key").read_text() != account) == bool(key)
        seen = len(moved)
        wait_until(lambda: len(moved) > seen + 10, what="the session to go on")
        assert the_one() == session
    finally:
        ended.set()
        thread.join()
    assert max(moved) == 4096
    # The CA takes the new key, and only that.
    assert serving.call("acme.renew", 90) == {"renewed": True}


def test_t69_key_cannot_be_changed(middle, acme_server):
    """That is for who asked for it: the next renewal does not try it again."""
    serving = acme_server(middle)
    wait_issued(serving)
    middle.rule = Spoil.answer("/rollover-account-key", problem(403, "unauthorized", "keep it"))
    with pytest.raises(procs.AdminError, match="answers 403 .*keep it"):
        serving.call("acme.renew", 60, key="new")
    assert serving.call("acme.renew", 60) == {"renewed": True}
    assert len(middle.asked_for("/rollover-account-key")) == 1


def test_t69_change_of_the_key_was_cut_off(middle, acme_server, tmp_path):
    """The next key is kept until the CA says that it does not know it: it may be the account's."""
    serving = acme_server(middle)
    wait_issued(serving)
    state = tmp_path / "acme"
    account, following = (state / "account.key").read_text(), state / "account-next.key"
    put(following, open(middle.authority.key("next"), encoding="ascii").read())

    def refuse(request):
        if request.method == "POST" and isinstance(request.payload, dict) and request.payload.get("onlyReturnExisting"):
            return problem(403, "unauthorized", "not now")
        return None

    middle.rule = refuse
    fail_renewal(serving, "answers 403 .*not now")
    assert following.exists()
    middle.rule = None
    assert serving.call("acme.renew", 60) == {"renewed": True}
    assert not following.exists() and (state / "account.key").read_text() == account


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


def test_another_program_takes_the_certificate_over(pebble, upgradable, client, tmp_path, targets):  # noqa: F811
    """It serves what is on disk from its first connection on; sessions go on in the one before, and renewals go on when that has ended."""
    ca = pebble()
    flags = flags_for(ca.url, ca.authority.path("ca.pem"), tmp_path / "acme", challenge="tls-alpn-01")
    serving = upgradable(*flags, conf=f'listen = {{ "127.0.0.1:{ca.tls}" }}')
    wait_issued(serving.first)
    before = served(serving.port)
    tunnel = client(serving.first, "--transport", "tls", "--tls-server-name", NAME, env=procs.environment(SSL_CERT_FILE=str(ca.root)))
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.echo) as sock:
        serving.replace()
        pid = serving.upgrade()["pid"]
        assert served(serving.port) == before and verified(ca, serving.port)
        assert not serving.call("acme.status")["self_signed"]
        net.ask_echo(sock)
        assert serving.first.running()
    tunnel.stop()
    assert serving.first.wait() == 0
    assert serving.call("status")["pid"] == pid
    wait_until(lambda: serving.call("acme.status")["helper"], 30, "the helper of the program that serves")
    assert serving.call("acme.renew") == {"renewed": True}
    assert served(serving.port) != before and verified(ca, serving.port)


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
    from harness.net import free_port

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
        # The next helper waits on. It asks when it is told to, and had not asked by itself before.
        for again in (lambda: kill_helper(serving), lambda: serving.call("reload")):
            again()
            wait_until(lambda: serving.call("acme.status")["running"], what="the helper")
            after = serving.call("acme.status")["helper"]
            assert abs(after["next"] - helper["next"]) <= 2 and (after["failures"], after["last_error"]) == (1, helper["last_error"])
        with pytest.raises(procs.AdminError, match=f"it answers {status}"):
            serving.call("acme.renew", 60)
        assert ca.asked == 2 and serving.call("acme.status")["helper"]["failures"] == 2
    finally:
        ca.stop()


def test_t69_helper_dies(pebble, acme_server):
    ca = pebble()
    serving = acme_server(ca, workers=1)
    wait_issued(serving)
    before = served(serving.port)
    helper = next(pid for pid in procs.children(serving.pid) if "acme" in comm(pid))
    os.kill(helper, 9)
    serving.wait_log('msg="alknet-acme has ended"')
    assert served(serving.port) == before
    wait_until(lambda: serving.call("acme.status")["running"], what="the helper")
    assert serving.call("acme.renew", 60) == {"renewed": True}


def kill_helper(serving):
    """And wait for the next one."""
    helper = next(pid for pid in procs.children(serving.pid) if "acme" in comm(pid))
    os.kill(helper, 9)
    wait_until(lambda: not os.path.exists(f"/proc/{helper}"), what="the helper to be gone")
    wait_until(lambda: any("acme" in comm(pid) for pid in procs.children(serving.pid)), what="the next helper")


def put(path, text):
    """As private as the server would have it."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


@pytest.mark.parametrize("workers", [0, 1])
def test_t69_helper_dies_in_a_proof(pebble, acme_server, workers):
    """The proof is over with it, and the CA is not asked again at once."""
    ca = pebble(PEBBLE_VA_NOSLEEP="0", PEBBLE_VA_SLEEPTIME="60")
    serving = acme_server(ca, workers=workers)

    def proves():
        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["acme-tls/1"])
        with socket.create_connection(("127.0.0.1", serving.port), scaled(20)) as raw:
            try:
                with context.wrap_socket(raw, server_hostname=NAME) as tls:
                    return tls.selected_alpn_protocol() == "acme-tls/1"
            except ssl.SSLError:
                return False

    wait_until(proves, what="a proof")
    orders = ca.ca.log().count("order-plz")
    kill_helper(serving)
    assert not proves()
    wait_until(lambda: serving.call("acme.status")["helper"]["state"] == "waiting", what="the next helper")
    helper = serving.call("acme.status")["helper"]
    assert helper["failures"] == 1 and "ended while it asked" in helper["last_error"]
    assert 30 < helper["next"] - time() < 61
    assert ca.ca.log().count("order-plz") == orders


@pytest.mark.parametrize("workers", [0, 1])
def test_t69_certificate_on_disk_is_served(pebble, acme_server, tmp_path, workers):
    """A helper that is ended between disk and supervisor: the next one brings it. One that is older than what is served stays where it is."""
    ca = pebble()
    serving = acme_server(ca, workers=workers)
    wait_issued(serving)
    before = served(serving.port)
    file = tmp_path / "acme" / "certificate.pem"
    for name, start, taken in (("older", -1, False), ("newer", 0, True)):
        cert, key = (open(path, encoding="ascii").read() for path in ca.authority.issue(name, NAME, start=start))
        put(file, key + cert)
        kill_helper(serving)
        wait_until(lambda: serving.call("acme.status")["running"], what="the helper")
        wanted = ssl.PEM_cert_to_DER_cert(cert[cert.index("-----BEGIN"):]) if taken else before
        wait_until(lambda: served(serving.port) == wanted, what=f"the {name} certificate")
    assert serving.log().count("new TLS certificate by ACME") == 2
    assert not serving.call("acme.status")["self_signed"]


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


def fail_renewal(serving, why, timeout=90):
    with pytest.raises(procs.AdminError, match=why):
        serving.call("acme.renew", timeout)


class Spoil:
    """One fault after the other; each is (rule, alter, what the error says)."""

    def __init__(self, middle):
        self.middle = middle

    @staticmethod
    def answer(path, answer):
        return lambda request: answer if path in request.path and request.method == "POST" else None

    @staticmethod
    def order(**values):
        def alter(request, answer):
            if "/my-order/" in request.path or "/order-plz" in request.path:
                answer.change(**values)

        return alter

    def certificate(self, name, *dates, **more):
        def alter(request, answer):
            if "/certZ/" in request.path:
                answer.body = self.middle.sign(name, *dates, **more)

        return alter

    @staticmethod
    def prefix(junk):
        def alter(request, answer):
            if "/certZ/" in request.path:
                answer.body = junk + answer.body

        return alter

    @staticmethod
    def directory(**values):
        def alter(request, answer):
            if request.path == "/dir":
                answer.change(**values)

        return alter

    def faults(self):
        nothing = problem(500, "serverInternal", "sorry")
        authority = self.middle.authority
        authority.issue("stranger", NAME)
        yield self.answer("/order-plz", nothing), None, "answers 500 to .*order-plz.* sorry"
        yield self.answer("/sign-me-up", nothing), None, "answers 500 to .*sign-me-up"
        yield self.answer("/sign-me-up", problem(403, "unauthorized", "go away")), None, "answers 403 .*go away"
        yield self.answer("/order-plz", problem(400, "rejectedIdentifier", "no \x1b[31m name")), None, "rejectedIdentifier no "
        yield self.answer("/order-plz", problem(400, "rejectedIdentifier", "x" + "é" * 400)), None, "rejectedIdentifier xé+$"  # cut within a letter
        yield self.answer("/order-plz", Answer(201, {}, b"<html>")), None, "order cannot be understood"
        yield self.answer("/order-plz", Answer(201, {"Location": "https://localhost/x"}, b'{"authorizations": [1]}')), None, "URL|url"
        yield self.answer("/order-plz", Answer(201, {"Location": "x"}, b'{"authorizations": ["file:///etc/passwd"]}')), None, "(?i)protocol"
        yield self.answer("/order-plz", Answer(200, {}, b"x" * 600_000)), None, "too long"
        yield self.answer("/authZ/", Answer(200, {}, b"[]")), None, 'wants a proof for "", which was not asked for'
        ours, token = {"value": NAME}, {"type": "tls-alpn-01", "token": "../x"}
        for authz in ({"identifier": ours}, {"identifier": ours, "challenges": [token]}):
            yield self.answer("/authZ/", Answer(200, {}, json.dumps(authz).encode())), None, f"does not offer tls-alpn-01 for {NAME}"
        yield self.answer("/chalZ/", nothing), None, "answers 500 to .*chalZ"
        yield self.answer("/finalize-order/", nothing), None, "answers 500 to .*finalize-order"
        yield None, self.order(status="invalid", error={"type": "x:caa", "detail": "CAA says no"}), 'order is "invalid": x:caa CAA says no'
        yield None, self.certificate("wrong-key", -60, 9000, key=authority.path("stranger.csr")), "its key is not that of its certificate"
        yield None, self.certificate("expired", -9000, -60), "has expired already: is this machine's clock right"
        yield None, self.certificate("other-name", -60, 9000, alt="DNS:other.example"), "not for all of the names"
        yield self.answer("/certZ/", Answer(200, {}, b"-----BEGIN CERTIFICATE-----\nMIIB")), None, "has no certificate"
        yield None, self.prefix(b"caf\xe9\n"), "certificate is not text"
        yield None, self.prefix(b"\x01" * 50_000), "certificate is not text"
        yield self.answer("/certZ/", Answer(200, {}, b"")), None, "certificate cannot be understood"
        yield None, self.directory(newOrder=""), "has no newOrder"
        yield None, self.directory(newNonce="http://localhost/x"), "(?i)protocol"
        yield lambda request: Answer(200, {}, b"[1, 2") if request.path == "/dir" else None, None, "is not an ACME directory"
        yield lambda request: Answer(302, {"Location": "/dir2"}) if request.path == "/dir" else None, None, "is not an ACME directory: it answers 302"


def test_t69_ca_errs(middle, acme_server, client, targets):
    """Whatever goes wrong at the CA: it is said, the certificate in use stays, its sessions go on, and then all is well again."""
    serving = acme_server(middle, NAME, "127.0.0.1", workers=1)
    wait_issued(serving)
    before = served(serving.port)
    connecting = client(serving, "--transport", "tls", env=procs.environment(SSL_CERT_FILE=str(middle.ca.root)))
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        for number, (rule, alter, why) in enumerate(Spoil(middle).faults(), 1):
            middle.rule, middle.alter = rule, alter
            fail_renewal(serving, why)
            assert serving.metric("alknet_acme_failures") == number
            assert served(serving.port) == before
            net.ask_echo(sock)
        middle.rule = middle.alter = None
        assert serving.call("acme.renew", 90) == {"renewed": True}
        net.ask_echo(sock)
    assert serving.metric("alknet_acme_failures") == 0
    assert served(serving.port) != before
    assert "\x1b" not in serving.log()


@pytest.mark.parametrize("after", ["seconds", "date"])
def test_t69_order_is_limited(middle, acme_server, after):
    """A rate limit is kept, as seconds and as a date, also where it is longer than our own patience."""
    serving = acme_server(middle)
    wait_issued(serving)
    before = served(serving.port)
    limit = problem(429, "rateLimited", "too many", **{"Retry-After": "50000" if after == "seconds" else http_date(50000)})
    middle.rule = Spoil.answer("/order-plz", limit)
    asked = len(middle.asked_for("/order-plz"))
    fail_renewal(serving, "answers 429 .*rateLimited too many")
    assert len(middle.asked_for("/order-plz")) == asked + 1
    helper = serving.call("acme.status")["helper"]
    assert 49_000 < helper["next"] - time() < 50_002 and helper["failures"] == 1
    assert served(serving.port) == before
    serving.wait_log(r'msg="no certificate by ACME" .*rateLimited.*served="the one before"')


def test_t69_nonces_are_limited(middle, acme_server):
    """The CA says it before the first request as well."""
    limit = problem(503, "rateLimited", "busy", **{"Retry-After": "5000"})
    middle.rule = lambda request: limit if "nonce" in request.path else None
    serving = acme_server(middle)
    wait_until(lambda: serving.metric("alknet_acme_failures") > 0, 30, "a failure")
    helper = serving.call("acme.status")["helper"]
    assert re.search("answers 503 .*rateLimited busy", helper["last_error"]) and 4900 < helper["next"] - time() < 5001


LIFE = 24


def test_t69_renewal_at_two_thirds(middle, acme_server):
    """Certificates of half a minute are renewed by themselves, at two thirds of their life and a little later."""
    times = []

    def alter(request, answer):
        if "/certZ/" in request.path:
            times.append(time())
            answer.body = middle.sign(f"short{len(times)}", 0, LIFE)

    middle.alter = alter
    serving = acme_server(middle)
    wait_issued(serving)
    status = serving.call("acme.status")
    due = status["helper"]["next"] - (status["not_after"] - LIFE)
    assert LIFE * 2 / 3 <= due <= LIFE * 2 / 3 + LIFE / 48 + 1
    wait_issued(serving, times=3)
    for first, second in zip(times, times[1:]):
        assert second - first >= LIFE * 2 / 3 - 1
    assert serving.call("acme.status")["not_after"] - time() > 0


def test_t69_certificate_is_due_when_it_comes(middle, acme_server):
    """Or this machine's clock is wrong: it is used, and the next order waits as after a failure."""

    def alter(request, answer):
        if "/certZ/" in request.path:
            answer.body = middle.sign(f"late{len(middle.asked)}", -9000, 600)

    middle.alter = alter
    serving = acme_server(middle)
    helper = wait_issued(serving)["helper"]
    assert 30 < helper["next"] - time() < 61
    assert serving.call("acme.renew", 60) == {"renewed": True}
    assert 60 < serving.call("acme.status")["helper"]["next"] - time() < 121
    assert len(middle.asked_for("/order-plz")) == 2


def test_renewal_that_the_ca_suggests(middle, acme_server):
    """RFC 9773: a window that has begun counts more than two thirds; the order names what it replaces."""
    windows = {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00.5Z"}

    def rule(request):
        if request.path.startswith("/renewal/"):
            return Answer(200, {"Retry-After": "3600"}, json.dumps({"suggestedWindow": windows}).encode())
        return None

    def alter(request, answer):
        if "/certZ/" in request.path:
            answer.body = middle.sign(f"ari{len(middle.asked)}", -60, 86400)
        elif request.path == "/dir":
            answer.change(renewalInfo=f"https://localhost:{middle.port}/renewal")

    middle.rule, middle.alter = rule, alter
    serving = acme_server(middle)
    wait_issued(serving, times=2)
    wait_until(lambda: len(middle.asked_for("/renewal/")) == 2, what="the CA to be asked about the second one")
    first, second = [request.path.rsplit("/", 1)[1] for request in middle.asked_for("/renewal/")]
    assert first != second and "." in first
    orders = [request.payload for request in middle.asked_for("/order-plz")]
    assert ["replaces" in order for order in orders] == [False, True] and orders[1]["replaces"] == first
    # A CA that wants each one replaced at once is not followed for ever.
    status = serving.call("acme.status")
    assert status["helper"]["issued"] == 2 and status["helper"]["next"] - time() > 3600
    serving.finish()
    # A certificate that was kept is asked about as well.
    windows.update(start="2020-01-01T00:00:00Z", end="2020-01-01T00:00:01Z")
    wait_issued(acme_server(middle))


@pytest.fixture
def owned(tmp_path):
    """A directory that is not root's, below one that all may pass."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the state directory is another user's")
    top = tempfile.mkdtemp(prefix="alknet-acme.")
    os.chmod(top, 0o755)
    state = os.path.join(top, "state")
    os.mkdir(state, 0o700)
    os.chown(state, 65534, 65534)
    yield state
    shutil.rmtree(top)


def test_t69_state_cannot_be_written(pebble, server, owned):
    """The helper is the directory's owner and nobody else. What it cannot keep it does not ask the CA for."""
    ca = pebble()
    serving = server(*flags_for(ca.url, ca.authority.path("ca.pem"), owned), listen=f"127.0.0.1:{ca.tls}")
    wait_issued(serving)
    helper = next(pid for pid in procs.children(serving.pid) if "acme" in comm(pid))
    ids = dict(line.split(":", 1) for line in open(f"/proc/{helper}/status", encoding="ascii") if line.startswith(("Uid", "Gid", "NoNewPrivs", "CapEff")))
    assert ids["Uid"].split() == ids["Gid"].split() == ["65534"] * 4
    assert ids["NoNewPrivs"].strip() == "1" and int(ids["CapEff"], 16) == 0
    before, orders = served(serving.port), ca.ca.log().count("order-plz")
    os.chmod(owned, 0o500)
    fail_renewal(serving, "acme_state_dir: .* cannot be written in: Permission denied")
    assert ca.ca.log().count("order-plz") == orders
    assert served(serving.port) == before and serving.metric("alknet_acme_failures") == 1
    serving.wait_log(r'msg="no certificate by ACME" .*cannot be written in')
    os.chmod(owned, 0o700)
    assert serving.call("acme.renew", 60) == {"renewed": True}


def test_t69_key_that_others_can_read(pebble, acme_server, tmp_path):
    """On disk: said, and a certificate with another key is got."""
    ca = pebble()
    serving = acme_server(ca)
    wait_issued(serving)
    before = served(serving.port)
    serving.finish()
    file = tmp_path / "acme" / "certificate.pem"
    file.chmod(0o644)
    again = acme_server(ca)
    again.wait_log("another one is got.*holds a private key and others may use it")
    wait_issued(again)
    assert served(again.port) != before and stat.S_IMODE(file.stat().st_mode) == 0o600


def test_t69_key_of_another_certificate(pebble, acme_server, tmp_path):
    """On disk: a pair that is none is said, and got anew."""
    ca = pebble()
    serving = acme_server(ca)
    wait_issued(serving)
    serving.finish()
    file = tmp_path / "acme" / "certificate.pem"
    cert, key = ca.authority.issue("one", NAME)
    other = ca.authority.key("two")
    file.write_text(open(other, encoding="ascii").read() + open(cert, encoding="ascii").read())
    again = acme_server(ca)
    again.wait_log(r"cannot be used; another one is got.*its key is not that of its certificate")
    wait_issued(again)
    verified(ca, again.port)


def test_stealth_and_acme(pebble, acme_server, client, targets):
    """tls-alpn-01 is answered on a port that is a web server to the world."""
    ca = pebble()
    serving = acme_server(ca, NAME, "127.0.0.1", conf="stealth = true", workers=1)
    wait_issued(serving)
    context = ssl.create_default_context(cafile=str(ca.root))
    with socket.create_connection(("127.0.0.1", serving.port), scaled(20)) as raw, context.wrap_socket(raw, server_hostname=NAME) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert net.recv_all(tls).startswith(b"HTTP/1.1 404 Not Found\r\nServer: nginx/1.22.1\r\n")
    context.set_alpn_protocols(["acme-tls/1"])
    with socket.create_connection(("127.0.0.1", serving.port), scaled(20)) as raw, pytest.raises(ssl.SSLError, match="no application protocol"):
        context.wrap_socket(raw, server_hostname=NAME)
    connecting = client(serving, "--transport", "tls", env=procs.environment(SSL_CERT_FILE=str(ca.root)))
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        assert serving.call("acme.renew", 60) == {"renewed": True}
        net.ask_echo(sock)


def test_ipv6_address(pebble, server, tmp_path, ipv6):
    ca = pebble()
    flags = flags_for(ca.url, ca.authority.path("ca.pem"), tmp_path / "acme", "::1")
    serving = server(*flags, listen=f"[::1]:{ca.tls}")
    wait_issued(serving)
    context = ssl.create_default_context(cafile=str(ca.root))
    with socket.create_connection(("::1", ca.tls), scaled(20)) as raw, context.wrap_socket(raw, server_hostname="::1") as tls:
        assert tls.getpeercert()["subjectAltName"] == (("IP Address", "0:0:0:0:0:0:0:1"),)


def test_admin_commands(pebble, acme_server):
    """`alknet-admin acme status|renew`, as a user types them."""
    ca = pebble()
    serving = acme_server(ca)
    wait_issued(serving)
    before = served(serving.port)

    def admin(*words):
        argv = [procs.alknet_admin(), "--socket", str(serving.admin), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=scaled(60), env=procs.environment(), check=False)

    shown = admin("acme", "status")
    assert shown.returncode == 0 and re.search(rf"^names +{NAME}$", shown.stdout, re.M) and ca.url in shown.stdout, shown
    assert re.search(r"^not after +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d$", shown.stdout, re.M), shown
    assert json.loads(admin("--json", "acme", "status").stdout)["self_signed"] is False
    done = admin("acme", "renew")
    assert done.returncode == 0, done
    assert served(serving.port) != before
    ca.stop()
    failed = admin("acme", "renew")
    assert failed.returncode == 1 and "onnect" in failed.stderr, failed
    shown = admin("acme", "status")
    assert "onnect" in shown.stdout, shown


# --- a sentence at start


def refused(keys, *flags):
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", keys.authorized, "--listen", "127.0.0.1:0", *flags]
    done = subprocess.run(
        [str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=scaled(20), env=procs.environment(), check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_start_is_refused(keys, tmp_path):
    state, shared, plain, large = tmp_path / "acme", tmp_path / "shared", tmp_path / "plain", tmp_path / "large"
    state.mkdir(mode=0o700)
    shared.mkdir()
    shared.chmod(0o777)
    plain.write_text("nothing")
    large.write_text("-----BEGIN CERTIFICATE-----\n" * 12_000)
    base = ["--transport", "tls", "--acme-directory", "https://127.0.0.1:1/dir"]
    for flags, why in (
        (["--acme-domain", "*.example"], "a wildcard needs a proof by DNS"),
        (["--acme-domain", "a b"], "neither a host name nor an IP address"),
        (["--acme-domain", "ok.example", "--acme-email", "me"], "is not an address"),
        (["--acme-domain", "ok.example", "--acme-ca-file", plain], "holds no PEM certificate"),
        (["--acme-domain", "ok.example", "--acme-ca-file", large], "is larger than 240 KiB"),
        (["--acme-domain", "ok.example", "--acme-directory", "http://127.0.0.1/dir"], "does not begin with https://"),
        (["--acme-domain", "ok.example", "--acme-http", "80"], "acme_http: 80 is not ADDRESS:PORT"),
        (["--acme-domain", "ok.example", "--acme-http", "127.0.0.1:65536"], "acme_http: 127.0.0.1:65536 is not ADDRESS:PORT"),
        (["--acme-domain", "ok.example", "--acme-http", "here.example:80"], "acme_http: here.example:80: "),
        (["--acme-domain", "ok.example", "--acme-state-dir", shared], "can be written by others"),
        (["--acme-domain", "ok.example", "--acme-state-dir", plain], "is not a directory"),
        (["--acme-domain", "ok.example", "--acme-state-dir", "/proc/acme"], "cannot be made"),
        (["--acme-domain", "ok.example", "--tls-cert", plain], "does not go with tls_cert"),
    ):
        assert why in refused(keys, *base, "--acme-state-dir", state, *flags), flags
    put(state / "account.key", "no key")
    assert "account.key is not an ECDSA P-256 key" in refused(keys, *base, "--acme-state-dir", state, "--acme-domain", "ok.example")
    for mode in (0o640, 0o604, 0o620):
        (state / "account.key").chmod(mode)
        said = refused(keys, *base, "--acme-state-dir", state, "--acme-domain", "ok.example")
        assert "account.key holds a private key and others may use it: chmod 600" in said


def test_status_without_acme(server):
    serving = server()
    with pytest.raises(procs.AdminError, match="not loaded"):
        serving.call("acme.status")
