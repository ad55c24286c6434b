# SPDX-License-Identifier: MIT OR Apache-2.0
"""Stealth through the real programs: who gets SSH, who gets a web page, and what a real web server behind adds."""

import base64
import ctypes
import ctypes.util
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from harness import net, procs
from harness.waiting import scaled, wait_until
from test_tls import NAME, authority, connect_tls, raw_connect, read_line, run_serve, serve_flags, tls_client, trusting  # noqa: F401

pytestmark = pytest.mark.part("tls")

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nServer: nginx/1.22.1\r\n"
BAD = b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\n"


def lua(**options):
    return ", ".join(f'{name} = "{value}"' for name, value in options.items())


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(subprocess.run([procs.alknet(), "secret", "new"], check=True, capture_output=True).stdout)
    path.chmod(0o600)
    return path


@pytest.fixture
def stealth(server, authority):
    def start(*flags, **more):
        return server(*serve_flags(authority), "--stealth", *flags, **more)

    return start


def read_answer(sock):
    """One HTTP answer with a Content-Length."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_line(sock)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    body = b""
    while len(body) < length:
        piece = sock.recv(length - len(body))
        assert piece
        body += piece
    return head, body


def ask(authority, port, request):
    with connect_tls(authority, port) as sock:
        sock.sendall(request)
        return read_answer(sock)[0]


def keyed_client(client, authority, tmp_path, serving, secret, **more):
    conf = tmp_path / "connect.conf"
    conf.write_text("return { transport = \"tls\", " + lua(tls_server_name=NAME, stealth_secret_file=secret) + " }")
    return client(serving, "-c", conf, env=trusting(authority), **more)


# --- secret new


def test_secret_new():
    """32 bytes in base64, others each time."""
    texts = [subprocess.run([procs.alknet(), "secret", "new"], check=True, capture_output=True, text=True).stdout for _ in range(3)]
    assert len(set(texts)) == 3 and all(len(base64.b64decode(t, validate=False)) == 32 and t.endswith("\n") for t in texts)
    ran = subprocess.run([procs.alknet(), "secret", "old"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and "alknet secret new" in ran.stderr


@pytest.mark.parametrize("flags, conf, why", [
    ([], 'stealth_secret = "short"', "stealth_secret: must be 32 bytes"),
    (["--stealth"], 'stealth_secret = "' + "A" * 44 + '"', "stealth_secret: must be 32 bytes"),
    ([], 'stealth_secret = "' + "A" * 43 + '="', "means nothing without --stealth"),
    ([], 'stealth_upstream = "127.0.0.1:80"', "means nothing without --stealth"),
    (["--stealth"], 'stealth_upstream = "nowhere"', "stealth_upstream"),
])
def test_settings_that_cannot_be(keys, authority, tmp_path, flags, conf, why):  # noqa: F811
    file = tmp_path / "alknet.conf"
    file.write_text("return { " + conf + " }")
    ran = run_serve(keys, *serve_flags(authority), *flags, "-c", str(file))
    assert ran.returncode == 2 and why in ran.stderr, ran


def test_stealth_on_another_transport(keys):
    ran = run_serve(keys, "--stealth")
    assert ran.returncode == 2 and "--stealth: is not for the transport tcp" in ran.stderr, ran


# --- alone


def test_alone(stealth, tls_client, authority, targets, workers):  # noqa: F811
    """SSH to who speaks SSH, a web server to all others, and the server never speaks first."""
    serving = stealth(workers=workers)
    with net.socks_connect(tls_client(serving, "--tls-server-name", NAME).port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    assert ask(authority, serving.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(NOT_FOUND)
    with connect_tls(authority, serving.port) as sock:
        sock.sendall(b"SSH-2.0-x\r\n")
        assert read_line(sock).startswith(b"SSH-2.0-")
    with connect_tls(authority, serving.port) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(scaled(20))
        sock.sendall(b"G")
        sock.sendall(b"ET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(sock)[0].startswith(NOT_FOUND)


def test_plain_http_on_the_port(stealth):
    serving = stealth()
    with raw_connect(serving.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, body = read_answer(sock)
    assert head.startswith(BAD) and b"The plain HTTP request was sent to HTTPS port" in body


def test_curl_sees_a_web_server(stealth, authority):  # noqa: F811
    serving = stealth()
    ran = subprocess.run(
        ["curl", "-sS", "-i", "--http1.1", "--cacert", authority.path("ca.pem"), "--resolve", f"{NAME}:{serving.port}:127.0.0.1",
         f"https://{NAME}:{serving.port}/", f"https://{NAME}:{serving.port}/b"], capture_output=True, timeout=scaled(20), check=True,
    )
    assert ran.stdout.count(NOT_FOUND) == 2


def test_visitors_are_no_sessions(stealth, authority):  # noqa: F811
    """A visitor who keeps his connection is forgotten by the server, and outlives the handshake's deadline."""
    serving = stealth("--handshake-timeout", "8")
    with connect_tls(authority, serving.port) as sock, connect_tls(authority, serving.port) as silent:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read_answer(sock)
        serving.wait_log("handshake timeout")
        wait_until(lambda: not serving.sessions(), 20, "visitors to be forgotten")
        for peer in (sock, silent):
            peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(peer)[0].startswith(NOT_FOUND)


def test_visitors_are_bounded(stealth, authority):  # noqa: F811
    """More than a web server of this kind would take: the oldest goes, whoever comes is served."""
    serving = stealth("--max-startups", "2000:30:4000", workers=1)
    kept = []
    for _ in range(790):
        sock = raw_connect(serving.port)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n")
        kept.append(sock)
    assert ask(authority, serving.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").startswith(NOT_FOUND)
    wait_until(lambda: not serving.sessions(), 20, "visitors to be forgotten")
    for sock in kept:
        sock.close()


class KeyUpdates:
    """OpenSSL's own client, which Python's ssl does not let change its keys. What it says is gathered."""

    def __init__(self, port):
        self.lib = ctypes.CDLL(ctypes.util.find_library("ssl"))
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_new", "BIO_s_mem"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.ctx = ctypes.c_void_p(self.lib.SSL_CTX_new(ctypes.c_void_p(self.lib.TLS_client_method())))
        self.ssl = ctypes.c_void_p(self.lib.SSL_new(self.ctx))
        self.sock = raw_connect(port)
        self.sock.setblocking(True)
        assert self.lib.SSL_set_fd(self.ssl, self.sock.fileno()) == 1
        assert self.lib.SSL_connect(self.ssl) == 1
        self.said = ctypes.c_void_p(self.lib.BIO_new(ctypes.c_void_p(self.lib.BIO_s_mem())))
        self.lib.SSL_set0_wbio(self.ssl, self.said)

    def update(self, times):
        for _ in range(times):
            assert self.lib.SSL_key_update(self.ssl, 0) == 1
            assert self.lib.SSL_do_handshake(self.ssl) == 1

    def say(self, data):
        assert self.lib.SSL_write(self.ssl, data, len(data)) == len(data)

    def gathered(self):
        data = ctypes.create_string_buffer(self.lib.BIO_ctrl_pending(self.said))
        assert self.lib.BIO_read(self.said, data, len(data)) == len(data)
        return data.raw

    def hear(self):
        answer = ctypes.create_string_buffer(4096)
        n = self.lib.SSL_read(self.ssl, answer, len(answer))
        return answer.raw[:max(n, 0)]

    def close(self):
        self.sock.close()
        self.lib.SSL_free(self.ssl)
        self.lib.SSL_CTX_free(self.ctx)


def test_t67_new_keys_without_end(stealth, tls_client, targets):  # noqa: F811
    """As many as nginx takes are taken, and a session of the same worker goes on meanwhile."""
    serving = stealth(workers=1)
    connecting = tls_client(serving, "--tls-server-name", NAME)
    visitor = KeyUpdates(serving.port)
    visitor.update(50_000)
    visitor.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    data = visitor.gathered()
    answers = []

    def flood():
        visitor.sock.sendall(data)
        answers.append(visitor.hear())

    flooding = threading.Thread(target=flood)
    rounds = 0
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
        flooding.start()
        while not answers:
            net.ask_echo(sock)
            rounds += 1
    flooding.join()
    visitor.close()
    assert answers[0].startswith(NOT_FOUND)
    assert rounds > 20, rounds


# --- keyed


def test_keyed(stealth, client, authority, secret, tmp_path, targets, workers):  # noqa: F811
    serving = stealth(conf=lua(stealth_secret_file=secret), workers=workers)
    with net.socks_connect(keyed_client(client, authority, tmp_path, serving, secret).port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    assert ask(authority, serving.port, b"SSH-2.0-x\r\n").startswith(BAD)
    assert ask(authority, serving.port, b"GET /" + b"A" * 43 + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(NOT_FOUND)
    assert secret.read_text().strip() not in serving.log()


def test_keyed_client_shows_a_request_to_others(server, client, authority, secret, tmp_path):  # noqa: F811
    """What our client says first is an HTTP request that names the host; it is another one for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.path("good.pem"), authority.path("good.key"))
    seen = []

    def serve():
        for _ in range(2):
            raw, _ = listener.accept()
            with context.wrap_socket(raw, server_side=True) as sock:
                lines = [read_line(sock) for _ in range(3)]
                seen.append(lines)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    class To:
        port = listener.getsockname()[1]

    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        keyed_client(client, authority, directory, To, secret, wait=False).expected_status = None
    thread.join(scaled(20))
    listener.close()
    assert len(seen) == 2 and seen[0][0] != seen[1][0]
    for lines in seen:
        assert lines[0].startswith(b"GET /") and lines[0].endswith(b" HTTP/1.1\r\n") and len(lines[0]) == 59, lines
        assert lines[1:] == [b"Host: " + NAME.encode() + b"\r\n", b"\r\n"]


class Replaying:
    """Terminates the client's TLS and says what the client said to the real server, in another TLS connection."""

    def __init__(self, authority, to):  # noqa: F811
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.authority, self.to, self.answer = authority, to, None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(authority.path("good.pem"), authority.path("good.key"))
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        raw, _ = self.listener.accept()
        with self.context.wrap_socket(raw, server_side=True) as sock:
            request = b"".join(read_line(sock) for _ in range(3))
            with connect_tls(self.authority, self.to) as other:
                other.sendall(request)
                self.answer = read_answer(other)[0]


def test_keyed_request_cannot_be_replayed(stealth, client, authority, secret, tmp_path):  # noqa: F811
    serving = stealth(conf=lua(stealth_secret_file=secret))
    between = Replaying(authority, serving.port)
    keyed_client(client, authority, tmp_path, between, secret, wait=False).expected_status = None
    between.thread.join(scaled(20))
    between.listener.close()
    assert between.answer is not None and between.answer.startswith(NOT_FOUND)


def test_no_key_without_an_extended_master_secret(stealth, authority, secret):  # noqa: F811
    """RFC 7627: such a connection of TLS 1.2 has no key that is its own, so that no request is one."""
    serving = stealth(conf=lua(stealth_secret_file=secret))
    options = ssl.create_default_context().options | 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET
    with connect_tls(authority, serving.port, options=options, maximum_version=ssl.TLSVersion.TLSv1_2) as sock:
        for name in (b"A" * 43, b"!" * 43, b"x"):
            sock.sendall(b"GET /" + name + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(sock)[0].startswith(NOT_FOUND)


def test_client_without_the_secret(stealth, keys, client, authority, secret, tmp_path):  # noqa: F811
    """It is told what it met, as at any web server."""
    serving = stealth(conf=lua(stealth_secret_file=secret))
    running = client(serving, "--transport", "tls", "--tls-server-name", NAME, env=trusting(authority), wait=False)
    running.expected_status = None
    assert running.wait() == 1
    assert "SSH handshake failed" in running.log(), running.log()


# --- a web server behind

NGINX = """daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{
    listen unix:{dir}/web.sock;
    location / {{ root {dir}/www; }}
    location /ws {{ proxy_pass http://127.0.0.1:{ws}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }}
  }}
}}
"""


def echo_websocket(listener):
    """One connection: the upgrade, then bytes are echoed as they are."""
    sock, _ = listener.accept()
    with sock:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        while data := sock.recv(4096):
            sock.sendall(data)


@pytest.fixture
def web(tmp_path, running_programs):
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not os.access(nginx, os.X_OK):
        pytest.skip("nginx is not installed")
    tmp_path.chmod(0o755)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "big").write_bytes(os.urandom(1 << 20) * 24)
    (tmp_path / "www" / "small").write_bytes(b"a real page\n")
    listener = socket.create_server(("127.0.0.1", 0))
    (tmp_path / "nginx.conf").write_text(NGINX.format(dir=tmp_path, ws=listener.getsockname()[1]))
    program = procs.Program([nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"], tmp_path / "nginx.log")
    running_programs.append(program)
    wait_until(lambda: listens(tmp_path / "web.sock"), 20, "nginx to listen")
    thread = threading.Thread(target=echo_websocket, args=(listener,), daemon=True)
    thread.start()
    yield tmp_path
    listener.close()


def listens(path):
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@pytest.mark.parametrize("keyed", [False, True])
def test_upstream(stealth, client, authority, secret, tmp_path, targets, web, running_programs, keyed):  # noqa: F811
    conf = {"stealth_upstream": web / "web.sock", **({"stealth_secret_file": secret} if keyed else {})}
    serving = stealth("--handshake-timeout", "12", conf=lua(**conf))
    curl = ["curl", "-sS", "--http1.1", "--cacert", authority.path("ca.pem"), "--resolve", f"{NAME}:{serving.port}:127.0.0.1"]
    base = f"https://{NAME}:{serving.port}"
    assert subprocess.run([*curl, base + "/small"], capture_output=True, check=True, timeout=scaled(20)).stdout == b"a real page\n"
    big = subprocess.run([*curl, base + "/big"], capture_output=True, check=True, timeout=scaled(60)).stdout
    assert big == (web / "www" / "big").read_bytes()
    # Longer than a handshake may take; meanwhile others come.
    start = time.monotonic()
    slow = procs.Program([*curl, "--limit-rate", "1600K", "-o", tmp_path / "slow", base + "/big"], tmp_path / "slow.log")
    running_programs.append(slow)
    if keyed:
        with net.socks_connect(keyed_client(client, authority, tmp_path, serving, secret).port, "127.0.0.1", targets.echo) as sock:
            net.ask_echo(sock)
        with connect_tls(authority, serving.port) as sock:
            sock.sendall(b"GET /" + b"A" * 43 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(sock)[0].startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert slow.wait(60) == 0, slow.log()
    assert time.monotonic() - start > 13, "not slow enough to tell"
    assert (tmp_path / "slow").read_bytes() == big


def test_upstream_websocket(stealth, authority, web):  # noqa: F811
    serving = stealth(conf=lua(stealth_upstream=web / "web.sock"))
    with connect_tls(authority, serving.port) as sock:
        key = base64.b64encode(os.urandom(16))
        sock.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += read_line(sock)
        assert head.startswith(b"HTTP/1.1 101 ")
        for _ in range(50):
            data = os.urandom(700)
            sock.sendall(data)
            got = b""
            while len(got) < len(data):
                got += sock.recv(4096)
            assert got == data


def test_visitors_of_the_upstream_are_bounded(stealth, authority, tmp_path):  # noqa: F811
    """A web server that lets everybody wait: the oldest visitor goes, whoever comes is let in."""
    with socket.socket(socket.AF_UNIX) as web_server:
        web_server.bind(str(tmp_path / "web.sock"))
        web_server.listen(1000)
        serving = stealth("--max-startups", "2000:30:4000", workers=1, conf=lua(stealth_upstream=tmp_path / "web.sock"))
        kept = []
        for _ in range(780):
            kept.append(connect_tls(authority, serving.port))
            kept[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for sock in kept[:10]:
            assert sock.recv(1) == b""
        [worker] = serving.workers()
        assert len(procs.open_files(worker)) < 2 * 770 + 100
        kept[-1].settimeout(0.3)
        with pytest.raises(TimeoutError):
            kept[-1].recv(1)
    for sock in kept:
        sock.close()
    wait_until(lambda: len(procs.open_files(worker)) < 100, 20, "the visitors to be gone")


def test_upstream_that_is_not_there(stealth, authority, tmp_path):  # noqa: F811
    """The visitor sees the connection end; the log is told, once in ten seconds and not once for each."""
    serving = stealth(conf=lua(stealth_upstream=tmp_path / "missing.sock"))
    for _ in range(5):
        with connect_tls(authority, serving.port) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1) == b""
    assert len(serving.lines("stealth_upstream cannot be reached")) in (1, 2)
