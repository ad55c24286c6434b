# SPDX-License-Identifier: MIT OR Apache-2.0
"""A stealth port to the programs that look at web servers: Chromium, nmap, and a clock. Beside the real nginx."""

import base64
import hashlib
import os
import random
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

from harness import nginx, procs
from harness.waiting import scaled, wait_until
from test_stealth_diff import certificate  # noqa: F401
from test_tls import NAME, authority, client_context, raw_connect, serve_flags  # noqa: F401
from test_tls_stealth import NOT_FOUND, lua, secret, stealth  # noqa: F401

pytestmark = pytest.mark.part("tls")

# --- Chromium

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-extensions",
]


@pytest.fixture
def chromium(tmp_path, authority):  # noqa: F811
    """Fetch a page of NAME from a port: what is in the document. Trusts the test's own key, by its hash alone."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    pem = subprocess.run(["openssl", "x509", "-in", authority.path("good.pem"), "-noout", "-pubkey"], check=True, capture_output=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True, capture_output=True).stdout
    pin = base64.b64encode(hashlib.sha256(der).digest()).decode()

    def fetch(port, path, *flags, name="browser"):
        argv = [
            program, *FLAGS, f"--user-data-dir={tmp_path / name}", f"--ignore-certificate-errors-spki-list={pin}",
            f"--host-resolver-rules=MAP {NAME} 127.0.0.1", *flags, "--dump-dom", f"https://{NAME}:{port}{path}",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=scaled(60), check=False, env=procs.environment(HOME=str(tmp_path)))
        assert done.returncode == 0, done
        return done.stdout

    return fetch


def test_chromium_sees_a_web_server(stealth, chromium, secret):  # noqa: F811
    """nginx's own page, as Chromium shows it."""
    serving = stealth(conf=lua(stealth_secret_file=secret))
    page = chromium(serving.port, "/")
    assert "<h1>404 Not Found</h1>" in page and "<center>nginx/1.22.1</center>" in page


# The picture comes when the server has heard the page's answer to its own: until then the page is not loaded.
PAGE = """<html><body><p id="p">no answer</p><img src="/wait"><script>
const ws = new WebSocket("wss://" + location.host + "/ws");
ws.onopen = () => ws.send("through the tunnel's port");
ws.onmessage = (m) => { document.getElementById("p").textContent = "echo: " + m.data; ws.send("seen"); };
</script></body></html>"""


def test_chromium_sees_the_site_behind(stealth, chromium, web_socket_site):  # noqa: F811
    """A real nginx behind: its page, and a WebSocket that the page opens."""
    serving = stealth(conf=lua(stealth_upstream=web_socket_site))
    assert "echo: through the tunnel's port" in chromium(serving.port, "/page.html")


SITE = """daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  include /etc/nginx/mime.types; access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{
    listen unix:{dir}/web.sock;
    location / {{ root {dir}/www; }}
    location = /wait {{ proxy_pass http://127.0.0.1:{ws}; }}
    location /ws {{ proxy_pass http://127.0.0.1:{ws}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }}
  }}
}}
"""


def read_frame(sock):
    """Text of a client's frame that is short (RFC 6455 section 5.2)."""
    frame = b""
    while len(frame) < 6 or len(frame) < 6 + (frame[1] & 127):
        piece = sock.recv(4096)
        assert piece
        frame += piece
    return bytes(b ^ frame[2 + i % 4] for i, b in enumerate(frame[6 : 6 + (frame[1] & 127)]))


def web_socket_talk(sock, seen):
    """Sends the first message back and hears what the page says then; or answers when that has happened."""
    with sock:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        if head.startswith(b"GET /wait"):
            seen.wait(scaled(30))
            sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)[1]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        text = read_frame(sock)
        sock.sendall(bytes([0x81, len(text)]) + text)
        if read_frame(sock) == b"seen":
            seen.set()


def web_socket_server(listener):
    seen = threading.Event()
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=web_socket_talk, args=(sock, seen), daemon=True).start()


@pytest.fixture
def web_socket_site(tmp_path, running_programs):
    if nginx.find() is None:
        pytest.skip(f"{nginx.VERSION} is not installed")
    site = tmp_path / "site"
    (site / "www").mkdir(parents=True)
    (site / "www" / "page.html").write_text(PAGE)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=web_socket_server, args=(listener,), daemon=True)
    thread.start()
    (site / "nginx.conf").write_text(SITE.format(dir=site, ws=listener.getsockname()[1]))
    program = procs.Program([nginx.find(), "-p", site, "-c", site / "nginx.conf", "-e", site / "error.log"], tmp_path / "site.log")
    running_programs.append(program)
    wait_until(lambda: (site / "web.sock").exists(), 20, "nginx to listen")
    yield site / "web.sock"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# --- nmap


@pytest.fixture
def both(tmp_path, server, certificate):  # noqa: F811
    """The real nginx and ours, with the same certificate; `ours` has a secret."""
    if nginx.find() is None:
        pytest.skip(f"{nginx.VERSION} is not installed")
    cert, key = certificate
    real = nginx.Nginx(tmp_path, cert, key)
    new = subprocess.run([procs.alknet(), "secret", "new"], check=True, capture_output=True, text=True, env=procs.environment()).stdout
    ours = server(
        "--transport", "tls", "--tls-cert", str(cert), "--tls-key", str(key), "--stealth", "--max-startups", "5000:1:5000",
        "--max-handshakes", "0", conf=f'stealth_secret = "{new.strip()}"')
    yield real, ours
    real.stop()


def nmap(port, *argv):
    """What it says of the port, without what is another each time."""
    if shutil.which("nmap") is None:
        pytest.skip("nmap is not installed")
    done = subprocess.run(
        ["nmap", "-Pn", "-n", "-p", str(port), "--host-timeout", f"{int(scaled(200))}s", *argv, "127.0.0.1"],
        capture_output=True, text=True, timeout=scaled(240), check=True)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "DATE", done.stdout.replace(str(port), "PORT"))
    changing = ("Starting Nmap", "Nmap done", "Host is up", "|_http-date", "| http-date", "Nmap scan report", "Service detection")
    if "-sV" not in argv:  # then it only says what is usual at that number, of a port that the system chose
        text = re.sub(r"^(PORT/tcp +open) +\S+", r"\1 usual", text, flags=re.MULTILINE)
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith(changing)]
    # What a script says is a block; the scripts come in the order in which they were done.
    blocks = re.split(r"\n(?=\|[ _]\S)", "\n".join(lines).replace("\n|_", "\n| "))
    return sorted(block.strip() for block in blocks)


@pytest.mark.slow
@pytest.mark.parametrize("argv, says", [
    (["-sV", "--version-all"], r"PORT/tcp open\s+ssl/http nginx 1\.22\.1"),
    (["--script", "ssl-cert,ssl-enum-ciphers,ssl-date,tls-alpn,tls-nextprotoneg,sslv2,ssl-heartbleed,ssl-poodle,ssl-ccs-injection,ssl-dh-params"], "TLSv1.3"),
    (["-sV", "--script",
      "http-title,http-headers,http-server-header,http-methods,http-trace,http-robots.txt,http-favicon,http-security-headers,http-date,"
      "http-options,http-useragent-tester,http-apache-negotiation,http-generator,http-auth,http-cors,http-git,http-webdav-scan,http-enum"],
     "404 Not Found"),
], ids=["version", "ssl", "http"])
def test_nmap_sees_nginx(both, argv, says):
    """Service detection and the scripts for TLS and HTTP say the same of both."""
    real, ours = both
    argv = [",".join(name for name in word.split(",") if script_is_there(name)) if "," in word else word for word in argv]
    expected = nmap(real.port, *argv)
    assert re.search(says, "\n".join(expected)), expected
    assert nmap(ours.port, *argv) == expected


def script_is_there(name):
    return os.path.exists(f"/usr/share/nmap/scripts/{name}.nse")


# --- how long an answer takes


def rank_share(first, second):
    """The chance that one of the first is less than one of the second: a half, if they are of one kind."""
    ranked = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    seen, less = 0, 0
    for _, of in ranked:
        if of == 0:
            seen += 1
        else:
            less += seen
    return less / (len(first) * len(second))


def test_wrong_key_takes_as_long_as_any_page(stealth, authority, secret):  # noqa: F811
    """A request with a wrong key and one for another page that is not there, in turns by chance: their times are of one
    kind. With 1500 of each, chance alone moves the share by 0.0105; what is held is six times as much."""
    serving = stealth("--max-startups", "5000:1:5000", "--max-handshakes", "0", conf=lua(stealth_secret_file=secret))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    chance = random.Random(7)
    times = {"key": [], "page": []}
    kinds = ["key", "page"] * 1550
    chance.shuffle(kinds)
    context = client_context(authority)
    for kind in kinds:
        name = "".join(chance.choice(alphabet) for _ in range(43))
        if kind == "page":
            name = name[:30] + "." + name[31:]
        with context.wrap_socket(raw_connect(serving.port), server_hostname=NAME) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begun = time.perf_counter()
            sock.sendall(f"GET /{name} HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            head = sock.recv(4096)
            times[kind].append(time.perf_counter() - begun)
            assert head.startswith(NOT_FOUND)
    share = rank_share(times["key"][50:], times["page"][50:])
    print(f"share {share:.4f}")
    assert abs(share - 0.5) < 0.063


def test_rank_share_sees_a_difference():
    """What is five hundredths slower, with as much noise as a quarter, is seen."""
    chance = random.Random(7)
    noise = [[chance.gauss(1, 0.25) for _ in range(1500)] for _ in range(2)]
    assert abs(rank_share(*noise) - 0.5) < 0.03
    assert abs(rank_share(noise[0], [value + 0.07 for value in noise[1]]) - 0.5) > 0.063


# --- what garbage costs


def garbage(number):
    made = random.Random(number)
    first = made.choice([b"\x16\x03\x01", b"\x80", b"\x16", b"", b"GET / HTTP/1.0\r\n\r\n", b"SSH-2.0-x\r\n"])
    return first + made.randbytes(made.randrange(1, 400))


def throw(port, count):
    for number in range(count):
        with socket.create_connection(("127.0.0.1", port), scaled(20)) as sock:
            sock.sendall(garbage(number))
            sock.shutdown(socket.SHUT_WR)
            try:
                while sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass


def test_t67_garbage_costs_little(both):
    """CPU time of both for the same 3000 connections. Ours go from one process to another and are logged, nginx's are not:
    that is two or three times as much, and no key is touched."""
    real, ours = both
    used = []
    for pid, port in ((real.process.pid, real.port), (ours.pid, ours.port)):
        throw(port, 200)
        before = procs.cpu_seconds(pid)
        throw(port, 3000)
        used.append(procs.cpu_seconds(pid) - before)
    print(f"nginx {used[0] / 3:.3f} ms, ours {used[1] / 3:.3f} ms a connection")
    assert used[1] <= used[0] * 5 + 0.05, used
