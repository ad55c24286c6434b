# SPDX-License-Identifier: MIT OR Apache-2.0
"""The page about the server on alknet-status: raw HTTP on channels, curl and Chromium through the SOCKS5 port."""

import json
import subprocess

import pytest

from harness import browser, sshwire
from harness.configured import Configured
from harness.waiting import scaled, wait_until

POLICY = """return {
  on_auth = function(ask)
    return "allow", { id = ask.user, scopes = ask.user == "nobody" and {} or { "status:read" } }
  end,
}"""


class Page:
    """One channel, one request."""

    number = 100

    def __init__(self, wire):
        Page.number += 1
        self.wire, self.rest = wire, b""
        opened = wire.open_channel(Page.number, "alknet-status", 80)
        self.channel = opened[0] if opened else None

    def say(self, text):
        self.wire.data(self.channel, text.encode() if isinstance(text, str) else text)
        return self

    def until(self, mark):
        while mark not in self.rest:
            self.rest += self.wire.read(1)
        out, self.rest = self.rest.split(mark, 1)
        return out

    def answer(self):
        head = self.until(b"\r\n\r\n").decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:])
        want = int(fields.get("content-length", 0))
        while len(self.rest) < want:
            self.rest += self.wire.read(want - len(self.rest))
        return head[0], fields, self.rest[:want]

    def ended(self):
        self.wire.expect(sshwire.EOF)


def get(path, method="GET", host=True):
    return f"{method} {path} HTTP/1.1\r\n{'Host: alknet-status' if host else 'X: y'}\r\n\r\n"


@pytest.fixture
def start(keys, tmp_path, running_programs):
    made = []

    def begin(**options):
        conf = Configured(keys, tmp_path, running_programs, policy=POLICY, **options)
        made.append(conf)
        return conf

    def login(conf, user="reader"):
        wire = sshwire.Wire(conf.port)
        conf.wires.append(wire)
        return wire.login(sshwire.load_key(keys.path("user")), user)

    begin.login = login
    yield begin
    for conf in made:
        conf.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_json(start, workers):
    conf = start(workers=workers)
    wire = start.login(conf)
    page = Page(wire).say(get("/status.json"))
    status, fields, body = page.answer()
    page.ended()
    assert status == "HTTP/1.1 200 OK"
    assert fields["content-type"] == "application/json"
    assert fields["cache-control"] == "no-store"
    now = json.loads(body)
    assert now["server"]["sessions"] == 1
    assert [s["identity"] for s in now["sessions"]] == ["reader"]
    assert now["server"]["listeners"][0]["address"].endswith(str(conf.port))
    assert now["bus"]["patterns"] == []
    assert now["rates"]["links"] >= 0


def test_rates_move(start, targets):
    conf = start()
    wire = start.login(conf)
    Page(wire).say(get("/status.json")).answer()

    def moved():
        opened = wire.open_channel(Page.number + 5000, "127.0.0.1", targets.echo)
        wire.send(bytes([sshwire.CLOSE]) + sshwire.u32(opened[0]))
        Page.number += 1
        rates = json.loads(Page(wire).say(get("/status.json")).answer()[2])["rates"]
        return rates["channels"] > 0 and rates["transmit_bytes"] > 0

    wait_until(moved, 20, "rates above zero")


def test_scope(start):
    conf = start()
    assert Page(start.login(conf, "nobody")).channel is None
    assert "alknet-status" not in conf.server.log().split("listening")[-1]


def test_events(start):
    conf = start()
    wire = start.login(conf)
    page = Page(wire).say(get("/events"))
    assert b"text/event-stream" in page.until(b"\r\n\r\n")
    page.until(b"retry: 3000\n\n")
    first = json.loads(page.until(b"\n\n").removeprefix(b"data: "))
    assert first["server"]["sessions"] == 1
    start.login(conf)
    while json.loads(page.until(b"\n\n").removeprefix(b"data: "))["server"]["sessions"] != 2:
        pass


def test_page_and_head(start):
    conf = start()
    wire = start.login(conf)
    status, fields, body = Page(wire).say(get("/")).answer()
    assert status == "HTTP/1.1 200 OK"
    assert body.startswith(b"<!doctype html>") and body.endswith(b"</html>\n")
    assert "default-src 'none'" in fields["content-security-policy"]
    assert b"http://" not in body and b"https://" not in body
    page = Page(wire).say(get("/", "HEAD"))
    assert int(dict(line.lower().split(": ", 1) for line in page.until(b"\r\n\r\n").decode().split("\r\n")[1:])
               ["content-length"]) == len(body)
    page.ended()
    assert page.rest == b""


@pytest.mark.parametrize("request_, status", [
    (get("/nothing"), "404 Not Found"),
    (get("/", "POST"), "405 Method Not Allowed"),
    (get("/", host=False), "400 Bad Request"),
    ("\0\1\2\3", "400 Bad Request"),
    ("GET / HTTP/2.0\r\n\r\n", "400 Bad Request"),
    (get("/" + "a" * 300), "404 Not Found"),
    ("GET / HTTP/1.1\r\nHost: x\r\nX: " + "y" * 5000 + "\r\n\r\n", "431 Request Header Fields Too Large"),
    ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request"),
])
def test_bad_requests(start, request_, status):
    conf = start()
    wire = start.login(conf)
    page = Page(wire).say(request_)
    assert page.answer()[0] == f"HTTP/1.1 {status}"
    page.ended()
    assert Page(wire).say(get("/status.json")).answer()[0] == "HTTP/1.1 200 OK"


def test_byte_by_byte(start):
    conf = start()
    page = Page(start.login(conf))
    for byte in get("/status.json"):
        page.say(byte)
    assert page.answer()[0] == "HTTP/1.1 200 OK"


def test_bounded(start):
    """64 pages of a worker at once, no more; the session lives on, and one that ends makes room."""
    conf = start(workers=1)
    wire = start.login(conf)
    pages = [Page(wire) for _ in range(64)]
    assert all(page.channel is not None for page in pages)
    assert Page(wire).channel is None
    wire.send(bytes([sshwire.CLOSE]) + sshwire.u32(pages[0].channel))
    wait_until(lambda: Page(wire).channel is not None, 20, "room for a page")


def test_reload(start):
    conf = start()
    wire = start.login(conf)
    page = Page(wire).say(get("/events"))
    page.until(b"data: ")
    conf.reload(max_sessions=5)
    page.until(b"data: ")
    assert Page(start.login(conf)).say(get("/status.json")).answer()[0] == "HTTP/1.1 200 OK"


@pytest.fixture
def proxy(start, client):
    return client(start(), user="reader").port


def test_curl(proxy):
    got = subprocess.run(
        ["curl", "-sS", "--max-time", str(scaled(20)), "--socks5-hostname", f"127.0.0.1:{proxy}",
         "http://alknet-status/status.json"], capture_output=True, text=True)
    assert json.loads(got.stdout)["server"]["sessions"] == 1


@pytest.fixture
def chromium(proxy, tmp_path):
    if browser.find() is None:
        pytest.skip("chromium is not installed")
    running = browser.Browser(tmp_path, f"--proxy-server=socks5://127.0.0.1:{proxy}")
    yield running
    running.close()


def test_chromium(chromium):
    """The page as a person sees it: its own script fills it in, and goes on doing so."""
    chromium.go("http://alknet-status/")
    chromium.until("document.getElementById('live')?.className == 'on'", "the page to live")
    assert chromium.value("document.title") == "alknet"
    cells = chromium.value("[...document.querySelectorAll('#sessions td')].map(c => c.textContent)")
    assert cells[5] == "reader"
    assert chromium.value("document.querySelector('#tiles b').textContent") == "1"
    # Nothing was asked of anybody else.
    assert chromium.value("performance.getEntriesByType('resource').every(e => e.name == 'http://alknet-status/events')")
    before = chromium.value("document.getElementById('about').textContent")
    chromium.until(f"document.getElementById('about').textContent != {json.dumps(before)}", "the next event")
