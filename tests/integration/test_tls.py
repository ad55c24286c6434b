# SPDX-License-Identifier: MIT OR Apache-2.0
"""The tls transport: certificates, names, what is refused, reload, tickets, and hostile peers."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from harness import net, procs, proxies, sshwire
from harness.configured import Configured
from harness.tlscerts import Authority
from harness.waiting import scaled, wait_until

pytestmark = pytest.mark.part("tls")

NAME = "tunnel.example"


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    if not os.path.exists(os.path.join(procs.plugin_dir(), "tls.so")):
        pytest.skip("built without the tls transport")
    made = Authority(tmp_path_factory.mktemp("tls"))
    made.issue("good", NAME, f"DNS:{NAME},IP:127.0.0.1,IP:::1")
    made.issue("other", NAME)
    made.issue("expired", NAME, start=-10, end=-1)
    made.issue("future", NAME, start=1, end=10)
    made.self_signed("self", NAME)
    return made


def serve_flags(authority, name="good"):
    return ["--transport", "tls", "--tls-cert", authority.path(name + ".pem"), "--tls-key", authority.path(name + ".key")]


@pytest.fixture
def tls_server(server, authority):
    def start(*flags, name="good", **more):
        return server(*serve_flags(authority, name), *flags, **more)

    return start


def trusting(authority, **more):
    return procs.environment(SSL_CERT_FILE=authority.path("ca.pem"), **more)


@pytest.fixture
def tls_client(client, authority):
    def start(to, *flags, **more):
        return client(to, "--transport", "tls", *flags, env=trusting(authority), **more)

    return start


def client_context(authority, **options):
    made = ssl.create_default_context(cafile=authority.path("ca.pem"))
    made.set_alpn_protocols(["http/1.1"])
    for name, value in options.items():
        setattr(made, name, value)
    return made


def connect_tls(authority, port, name=NAME, session=None, **options):
    raw = socket.create_connection(("127.0.0.1", port), scaled(20))
    return client_context(authority, **options).wrap_socket(raw, server_hostname=name, session=session)


def read_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        assert byte, f"ended after {line!r}"
        line += byte
    return line


def run_connect(keys, authority, port, *flags, env=None, known=None):
    argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{port}", "--identity", keys.path("user"), "--user", "tester"]
    argv += ["--known-hosts", str(known), "--socks5", "127.0.0.1:0", "--transport", "tls", *flags]
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=scaled(30), env=env or trusting(authority), check=False,
    )


# --- it works


def test_tunnel_over_tls(tls_server, tls_client, targets, workers):
    serving = tls_server(workers=workers)
    connecting = tls_client(serving, "--tls-server-name", NAME)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    [session] = serving.sessions()
    assert (session["transport"], session["sni"], session["alpn"]) == ("tls", NAME, "http/1.1")
    [listener] = serving.call("listener.list")["listeners"]
    assert listener["transport"] == "tls"


def test_address_as_name(tls_server, tls_client, targets):
    """An address is checked against the certificate's addresses, and is not sent as SNI."""
    serving = tls_server()
    with net.socks_connect(tls_client(serving).port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    assert "sni" not in serving.sessions()[0]


def test_options_in_the_file(server, client, authority, targets, tmp_path):
    """The plugin's section says the same as the flags; a flag counts more."""
    conf = f'tls = {{ cert = "{authority.path("self.pem")}", key = "{authority.path("good.key")}" }}, transport = "tls"'
    serving = server("--tls-cert", authority.path("good.pem"), conf=conf)
    file = tmp_path / "connect.conf"
    file.write_text(f'return {{ transport = "tls", tls = {{ ca = "{authority.path("ca.pem")}" }}, tls_server_name = "{NAME}" }}')
    with net.socks_connect(client(serving, "-c", file).port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)


def echo_all(connecting, targets, size):
    data = os.urandom(min(size, 1 << 20)) * (size // (1 << 20) or 1)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        got = hashlib.sha256()
        left = len(data)
        while left:
            piece = sock.recv(min(left, 1 << 18))
            assert piece
            got.update(piece)
            left -= len(piece)
        sender.join()
    assert got.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("ahead", ["1", "0"])
@pytest.mark.parametrize("size", [1, 70_000, 20_000_000])
def test_bytes_arrive(tls_server, tls_client, targets, monkeypatch, size, ahead):
    """Both directions, whole and in order; where SSH asks the transport itself, and where all goes through the pair."""
    monkeypatch.setenv("ALKNET_READAHEAD", ahead)
    echo_all(tls_client(tls_server()), targets, size)


class ByteByByte:
    """A TLS connection whose records have one byte each, and come together."""

    def __init__(self, sock):
        self.sock = sock

    def sendall(self, data):
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for at in range(len(data)):
            self.sock.sendall(data[at : at + 1])
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def __getattr__(self, name):
        return getattr(self.sock, name)


@pytest.mark.parametrize("ahead", ["1", "0"])
def test_records_of_one_byte(tls_server, authority, keys, targets, monkeypatch, ahead):
    """Thousands of them wait at a time: they take turns with everybody else, and none is left behind."""
    monkeypatch.setenv("ALKNET_READAHEAD", ahead)
    serving = tls_server()
    with sshwire.Wire(serving.port, start=False) as wire:
        wire.sock = ByteByByte(client_context(authority).wrap_socket(wire.sock, server_hostname=NAME))
        wire.start()
        channel, _ = wire.login(sshwire.load_key(keys.path("user"))).open_channel(1, "127.0.0.1", targets.echo)
        data = os.urandom(5000)
        wire.data(channel, data)
        assert wire.read(len(data)) == data
        wire.send(bytes([sshwire.EOF]) + sshwire.u32(channel))
        wire.expect(sshwire.CLOSE)
    wait_until(lambda: not serving.sessions(), 20, "the session to be gone")


@pytest.mark.parametrize("flags", [[], ["--stealth"]])
def test_bytes_arrive_over_a_narrow_link(tls_server, tls_client, targets, tmp_path, running_programs, flags):
    """The network takes less at a time than is written: what is left goes first, and ends whole."""
    serving = tls_server(*flags)
    relay = procs.start_relay(serving.port, tmp_path, 5, 150)
    running_programs.append(relay)
    connecting = tls_client(relay)
    echo_all(connecting, targets, 12_000_000)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.source) as sock:
        sock.sendall(b"4000000\n")
        assert len(net.recv_all(sock)) == 4_000_000


@pytest.mark.parametrize("version, expected", [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_openssl_sees_ssh(tls_server, authority, version, expected):
    serving = tls_server()
    ran = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{serving.port}", version, "-alpn", "h2,http/1.1", "-servername", NAME,
         "-CAfile", authority.path("ca.pem"), "-verify_return_error", "-verify_hostname", NAME],
        input=b"SSH-2.0-test\r\n", capture_output=True, timeout=scaled(20), check=False,
    )
    assert f"{expected}, Cipher is".encode() in ran.stdout and b"ALPN protocol: http/1.1" in ran.stdout, ran
    assert b"Verify return code: 0 (ok)" in ran.stdout


def test_a_name_that_is_no_text_hides_nothing(tls_server, authority):
    """What a peer calls the server need not be UTF-8; its session is shown all the same."""
    serving = tls_server()
    argv = [b"openssl", b"s_client", b"-quiet", b"-connect", b"127.0.0.1:%d" % serving.port, b"-servername", b"\xe9vil.example"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as peer:
        assert peer.stdout.readline().startswith(b"SSH-2.0-")
        (session,) = serving.sessions()
        assert session["sni"] == "\\xe9vil.example"
        assert serving.call("session.show", id=session["id"])["session"]["sni"] == session["sni"]
        peer.terminate()  # the end of its input is none to it


def test_curl_sees_no_http(tls_server, authority):
    """Without stealth it is SSH that answers, and curl says so."""
    serving = tls_server()
    ran = subprocess.run(
        ["curl", "-sS", "--http1.1", "--cacert", authority.path("ca.pem"), "--resolve", f"{NAME}:{serving.port}:127.0.0.1",
         f"https://{NAME}:{serving.port}/"], capture_output=True, text=True, timeout=scaled(20), check=False,
    )
    assert ran.returncode == 1 and "HTTP/0.9" in ran.stderr, ran


# --- whom the client trusts


@pytest.mark.parametrize("flags, name, why", [
    (["--tls-server-name", "wrong.example"], "good", "hostname mismatch"),
    (["--tls-server-name", NAME], "self", "self-signed certificate"),
    (["--tls-server-name", NAME], "expired", "certificate has expired"),
    ([], "other", "IP address mismatch"),
])
def test_certificate_is_refused(tls_server, keys, authority, tmp_path, flags, name, why):
    serving = tls_server(name=name)
    known = keys.known_hosts(tmp_path / "known", serving.port)
    ran = run_connect(keys, authority, serving.port, *flags, known=known)
    assert ran.returncode == 1 and why in ran.stderr and "cannot be trusted" in ran.stderr, ran.stderr
    wait_until(lambda: not serving.sessions(), 20, "the refused connection to be gone")


def test_insecure_says_so(tls_server, client, targets):
    serving = tls_server(name="self")
    connecting = client(serving, "--transport", "tls", "--insecure")
    assert "alknet: warning: --insecure" in connecting.log()
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)


def test_insecure_checks_the_host_key(tls_server, keys, authority, tmp_path):
    serving = tls_server(name="self")
    known = keys.known_hosts(tmp_path / "known", serving.port, key="stranger")
    ran = run_connect(keys, authority, serving.port, "--insecure", known=known)
    assert ran.returncode == 1 and "HOST KEY HAS CHANGED" in ran.stderr, ran.stderr


def test_client_at_a_port_without_tls(server, keys, authority, tmp_path):
    serving = server()
    known = keys.known_hosts(tmp_path / "known", serving.port)
    ran = run_connect(keys, authority, serving.port, "--insecure", known=known)
    assert ran.returncode == 1 and "TLS" in ran.stderr, ran.stderr


def test_client_at_a_port_that_is_silent(keys, authority, tmp_path):
    """Who takes the connection and says nothing is left at the handshake's deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        known = keys.known_hosts(tmp_path / "known", port)
        ran = run_connect(keys, authority, port, "--handshake-timeout", "1", known=known)
    assert ran.returncode == 1 and "in time" in ran.stderr or "timed out" in ran.stderr or "timeout" in ran.stderr, ran.stderr


# --- what a server refuses to start with


def run_serve(keys, *flags, known=None):
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", str(keys.authorized)]
    argv += ["--listen", "127.0.0.1:0", "--admin-socket", "none", *flags]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=scaled(20), env=procs.environment(), check=False)


def test_start_without_what_it_needs(keys, authority, tmp_path):
    good, key = authority.path("good.pem"), authority.path("good.key")
    text = tmp_path / "text.pem"
    text.write_text("nothing of the kind\n")
    text.chmod(0o600)
    shared = tmp_path / "shared.key"
    shutil.copy(key, shared)
    shared.chmod(0o644)
    locked = tmp_path / "locked.key"
    subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True, capture_output=True)
    locked.chmod(0o600)
    cut = tmp_path / "cut.pem"
    cut.write_text(open(good, encoding="ascii").read() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    cases = [
        ([], "needs a certificate"),
        (["--tls-cert", good], "without its key"),
        (["--tls-key", key], "without its certificate"),
        (["--tls-cert", good, "--tls-key", authority.path("other.key")], "is not the key of the certificate"),
        (["--tls-cert", text, "--tls-key", key], "holds no PEM certificate"),
        (["--tls-cert", good, "--tls-key", text], "holds no PEM private key"),
        (["--tls-cert", good, "--tls-key", locked], "has a passphrase"),
        (["--tls-cert", good, "--tls-key", shared], "--tls-key"),
        (["--tls-cert", cut, "--tls-key", key], "chain"),
        (["--tls-cert", tmp_path / "missing", "--tls-key", key], "--tls-cert"),
        (["--tls-cert", authority.path("future.pem"), "--tls-key", authority.path("future.key")], "not valid yet"),
    ]
    for flags, why in cases:
        ran = run_serve(keys, "--transport", "tls", *map(str, flags))
        assert ran.returncode == 2 and why in ran.stderr, (flags, ran)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_flag_for_another_transport(keys, authority, workers):
    ran = run_serve(keys, "--tls-cert", authority.path("good.pem"), "--workers", workers)
    assert ran.returncode == 2 and "--tls-cert: is not for the transport tcp" in ran.stderr, ran


def test_client_flag_for_another_transport(keys, authority, tmp_path):
    argv = [procs.alknet(), "connect", "--server", "127.0.0.1:1", "--identity", keys.path("user"), "--known-hosts", tmp_path / "k"]
    ran = subprocess.run([*argv, "--insecure"], capture_output=True, text=True, timeout=scaled(20), env=procs.environment(), check=False)
    assert ran.returncode == 2 and "--insecure: is not for the transport tcp" in ran.stderr, ran


def test_expired_certificate_warns(tls_server, client, targets):
    serving = tls_server(name="expired")
    assert len(serving.lines("level=warn", "has expired")) == 1
    with net.socks_connect(client(serving, "--transport", "tls", "--insecure").port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)


# --- reload


def peer_certificate(authority, port):
    with connect_tls(authority, port) as sock:
        return sock.getpeercert(binary_form=True)


def of_file(path):
    return ssl.PEM_cert_to_DER_cert(open(path, encoding="ascii").read())


@pytest.mark.parametrize("workers", [0, 2])
def test_certificate_is_reloaded_under_traffic(keys, authority, tls_client, tmp_path, running_programs, targets, workers):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(authority.path("good.pem"), cert)
    shutil.copy(authority.path("good.key"), key)
    key.chmod(0o600)
    serving = Configured(keys, tmp_path, running_programs, transport="tls", tls_cert=cert, tls_key=key, workers=workers)
    connecting = tls_client(serving.port)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        shutil.copy(authority.path("other.pem"), cert)
        with pytest.raises(procs.AdminError, match="is not the key of the certificate"):
            serving.reload()
        assert peer_certificate(authority, serving.port) == of_file(authority.path("good.pem"))
        shutil.copy(authority.path("other.key"), key)
        serving.reload()
        assert peer_certificate(authority, serving.port) == of_file(authority.path("other.pem"))
        net.ask_echo(sock)
        assert "session lost" not in connecting.log()


@pytest.mark.parametrize("workers", [0, 2])
def test_sighup_takes_the_certificate(keys, authority, tls_client, tmp_path, running_programs, targets, workers):
    """As `reload`: what fits is taken, what does not is said and left; sessions go on."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(authority.path("good.pem"), cert)
    shutil.copy(authority.path("good.key"), key)
    key.chmod(0o600)
    serving = Configured(keys, tmp_path, running_programs, transport="tls", tls_cert=cert, tls_key=key, workers=workers)
    connecting = tls_client(serving.port)
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
        shutil.copy(authority.path("other.pem"), cert)
        serving.server.signal(signal.SIGHUP)
        serving.server.wait_log("is not the key of the certificate")
        assert peer_certificate(authority, serving.port) == of_file(authority.path("good.pem"))
        shutil.copy(authority.path("other.key"), key)
        serving.server.signal(signal.SIGHUP)
        wait_until(lambda: peer_certificate(authority, serving.port) == of_file(authority.path("other.pem")), 20, "the other certificate")
        net.ask_echo(sock)
        shutil.copy(authority.path("future.pem"), cert)
        shutil.copy(authority.path("future.key"), key)
        serving.server.signal(signal.SIGHUP)
        serving.server.wait_log("is not valid yet")
        assert peer_certificate(authority, serving.port) == of_file(authority.path("other.pem"))
        net.ask_echo(sock)
        assert "session lost" not in connecting.log()


# --- a proxy below


@pytest.mark.parametrize("kind", ["microsocks", "tinyproxy"])
def test_tls_through_a_proxy(tls_server, tls_client, targets, tmp_path, running_programs, kind):
    """The client's TLS goes through the proxy, and ends at the server: the name that is checked is the server's."""
    serving = tls_server()
    proxy = getattr(proxies, kind)(tmp_path)
    running_programs.append(proxy)
    scheme = "socks5" if kind == "microsocks" else "http"
    connecting = tls_client(serving, "--tls-server-name", NAME, "--proxy", f"{scheme}://127.0.0.1:{proxy.port}")
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock, os.urandom(100_000))
    log = proxy.log() if kind == "microsocks" else (tmp_path / "tinyproxy.txt").read_text()
    assert "connected to" in log if kind == "microsocks" else f"CONNECT 127.0.0.1:{serving.port}" in log
    assert serving.sessions()[0]["sni"] == NAME


# --- tickets


def reused(authority, port, session, context):
    raw = socket.create_connection(("127.0.0.1", port), scaled(20))
    with context.wrap_socket(raw, server_hostname=NAME, session=session) as sock:
        read_line(sock)
        return sock.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets_hold_across_workers_and_reloads(keys, authority, tmp_path, running_programs, version):
    serving = Configured(
        keys, tmp_path, running_programs, transport="tls", tls_cert=authority.path("good.pem"), tls_key=authority.path("good.key"),
        workers=2,
    )
    context = client_context(authority, maximum_version=version)
    raw = socket.create_connection(("127.0.0.1", serving.port), scaled(20))
    with context.wrap_socket(raw, server_hostname=NAME) as sock:
        read_line(sock)
        session = sock.session
    assert session.ticket_lifetime_hint == 300
    assert [reused(authority, serving.port, session, context) for _ in range(4)] == [True] * 4
    serving.reload()
    serving.alone()
    assert [reused(authority, serving.port, session, context) for _ in range(2)] == [True] * 2


def test_two_tickets(tls_server, authority):
    serving = tls_server()
    ran = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{serving.port}", "-tls1_3", "-ign_eof", "-msg"], input=b"x\r\n" * 3,
        capture_output=True, timeout=scaled(60), check=False,
    )
    assert ran.stdout.count(b"NewSessionTicket") == 2


# --- ends


def test_close_notify_and_fin(tls_server, authority):
    """The end of SSH is the end of TLS: close_notify, then FIN, no RST."""
    serving = tls_server()
    with connect_tls(authority, serving.port) as sock:
        read_line(sock)
        sock.sendall(b"this is no SSH\r\n")
        while sock.recv(4096):
            pass


def test_peers_that_reset(tls_server, authority):
    serving = tls_server()
    for _ in range(20):
        sock = connect_tls(authority, serving.port)
        read_line(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        socket.socket(fileno=sock.detach()).close()
    wait_until(lambda: not serving.sessions(), 20, "sessions of peers that are gone to end")


# --- T67: hostile peers


def raw_connect(port):
    return socket.create_connection(("127.0.0.1", port), scaled(20))


def hello(authority, name=NAME):
    """The bytes of a client hello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = client_context(authority).wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        made.do_handshake()
    return outgoing.read()


def answer(port, data):
    with raw_connect(port) as sock:
        sock.sendall(data)
        got = b""
        try:
            while piece := sock.recv(4096):
                got += piece
        except ConnectionResetError:
            pass
        return got


def test_t67_garbage_1000_times(tls_server, tls_client, targets):
    serving = tls_server("--max-startups", "200:30:400")
    connecting = tls_client(serving)
    before = serving.memory()
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        for round_ in range(10):
            peers = [raw_connect(serving.port) for _ in range(100)]
            for i, peer in enumerate(peers):
                # It may be refused after the first bytes already.
                with contextlib.suppress(OSError):
                    peer.sendall(os.urandom(1 + (i * 37 + round_) % 600))
                    if i % 3 == 0:
                        peer.shutdown(socket.SHUT_WR)
            for peer in peers:
                peer.close()
            net.ask_echo(sock)
    wait_until(lambda: len(serving.sessions()) == 1, 30, "only the real session to be left")
    assert serving.memory() - before < 8 << 20


def test_t67_slow_hello_is_bounded(tls_server, authority):
    """A hello that never ends is cut at the handshake's deadline."""
    serving = tls_server("--handshake-timeout", "1")
    part = hello(authority)[:40]
    with raw_connect(serving.port) as sock:
        sock.sendall(part)
        with contextlib.suppress(ConnectionResetError):  # it had not read them
            assert sock.recv(1) == b""
    serving.wait_log("handshake timeout")


def test_t67_hello_byte_by_byte(tls_server, authority):
    serving = tls_server()
    with raw_connect(serving.port) as sock:
        for byte in hello(authority):
            sock.sendall(bytes([byte]))
        assert sock.recv(1) == b"\x16"


def test_t67_huge_hello(tls_server):
    """A hello that claims 16 MiB is refused by what it claims."""
    serving = tls_server()
    record = b"\x01\xff\xff\xff" + bytes(16000)
    got = answer(serving.port, b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record)
    assert got[:1] == b"\x15", got


def test_t67_wrong_alpn(tls_server, authority):
    serving = tls_server()
    context = client_context(authority)
    context.set_alpn_protocols(["imap"])
    with raw_connect(serving.port) as raw, pytest.raises(ssl.SSLError, match="no application protocol"):
        context.wrap_socket(raw, server_hostname=NAME)


def test_t67_no_sni_no_alpn(tls_server, authority):
    serving = tls_server()
    context = ssl.create_default_context(cafile=authority.path("ca.pem"))
    context.check_hostname = False
    with context.wrap_socket(raw_connect(serving.port)) as sock:
        assert read_line(sock).startswith(b"SSH-2.0-")
        assert sock.selected_alpn_protocol() is None


@pytest.mark.parametrize("flag", ["-tls1", "-tls1_1"])
def test_t67_old_versions(tls_server, flag):
    serving = tls_server()
    ran = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{serving.port}", flag, "-cipher", "DEFAULT@SECLEVEL=0"], input=b"",
        capture_output=True, timeout=scaled(20), check=False,
    )
    assert ran.returncode != 0 and b"SSH-2.0" not in ran.stdout


def test_t67_renegotiation_is_refused(tls_server):
    serving = tls_server()
    with subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{serving.port}", "-tls1_2"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as peer:
        wait_until(lambda: serving.sessions() and serving.sessions()[0]["state"] != "admit", 20, "the handshake")
        peer.stdin.write(b"R\n")
        peer.stdin.flush()
        out, _ = peer.communicate(timeout=scaled(20))
    assert b"no renegotiation" in out, out


def test_t67_no_early_data(tls_server, authority):
    """Tickets do not allow 0-RTT: a first flight cannot be replayed."""
    serving = tls_server()
    ran = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{serving.port}", "-tls1_3", "-ign_eof"], input=b"x\r\n",
        capture_output=True, timeout=scaled(60), check=False,
    )
    assert b"Max Early Data: 0" in ran.stdout, ran.stdout


def test_t67_certificate_chain_bomb(keys, authority, tmp_path, running_programs):
    """A server that shows the client a chain without end is refused."""
    one = open(authority.path("other.pem"), encoding="ascii").read()
    chain = tmp_path / "chain.pem"
    chain.write_text(one * 400)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, authority.path("other.key"))

    def serve():
        sock, _ = listener.accept()
        try:
            context.wrap_socket(sock, server_side=True)
        except (ssl.SSLError, OSError):
            pass
        sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    known = keys.known_hosts(tmp_path / "known", port)
    ran = run_connect(keys, authority, port, "--insecure", known=known)
    thread.join(scaled(20))
    listener.close()
    assert ran.returncode == 1 and "TLS handshake failed: excessive message size" in ran.stderr, ran.stderr


def test_t67_a_worker_that_dies_takes_no_other(tls_server, tls_client, authority):
    """Handshakes under way end with their worker; the next one is served."""
    serving = tls_server(workers=1)
    with raw_connect(serving.port) as sock:
        sock.sendall(hello(authority)[:20])
        wait_until(serving.sessions, 20, "the handshake to be under way")
        os.kill(serving.workers()[0], signal.SIGKILL)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:  # it had not read them
            pass
    wait_until(lambda: len(serving.workers()) == 1, 20, "another worker")
    serving.expected_status = None
    tls_client(serving)


def test_server_greets_at_once(tls_server, authority):
    """Without stealth, as over tcp."""
    with connect_tls(authority, tls_server().port) as sock:
        assert re.match(rb"SSH-2\.0-\S+\r\n$", read_line(sock))
