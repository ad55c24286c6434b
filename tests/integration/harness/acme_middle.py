# SPDX-License-Identifier: MIT OR Apache-2.0
"""Stands between the server and pebble, on loopback: a CA that works, but for what a test has it get wrong.

A rule is called with each request; what it gives is the answer. `alter` is called with each answer of pebble and may
change it."""

import base64
import json
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

from .waiting import scaled

PASSED = ("Replay-Nonce", "Location", "Content-Type", "Retry-After", "Link")


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Request:
    method: str
    path: str
    body: bytes
    payload: object = None  # of the JWS, if it is JSON


@dataclass
class Answer:
    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        return json.loads(self.body)

    def change(self, **values):
        self.body = json.dumps({**self.json, **values}).encode()


def problem(status, kind, detail, **headers):
    body = json.dumps({"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status}).encode()
    return Answer(status, {"Content-Type": "application/problem+json", **headers}, body)


def http_date(seconds):
    return formatdate(time() + seconds, usegmt=True)


class Middle:
    def __init__(self, directory, ca):
        directory.mkdir()
        self.dir, self.ca, self.asked = directory, ca, []
        self.rule = self.alter = None
        self.csr = None  # of the last order
        self.authority, self.http, self.tls = ca.authority, ca.http, ca.tls
        cert, key = ca.authority.issue("middle", "localhost", "DNS:localhost,IP:127.0.0.1")
        self.to_ca = ssl.create_default_context(cafile=ca.authority.path("ca.pem"))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"https://localhost:{self.port}/dir"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def asked_for(self, part):
        return [request for request in self.asked if part in request.path]

    # --- what goes through

    def handler(self):
        middle = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = scaled(30)

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = middle.answer(Request(self.command, self.path, body), self.headers)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_POST = do_HEAD = handle_any

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, request, headers):
        if request.body:
            payload = decode(json.loads(request.body)["payload"])
            request.payload = json.loads(payload) if payload else None
        if isinstance(request.payload, dict) and "csr" in request.payload:
            self.csr = decode(request.payload["csr"])
        self.asked.append(request)
        given = self.rule(request) if self.rule else None
        return given or self.forward(request, headers)

    def forward(self, request, headers):
        to = HTTPSConnection("localhost", self.ca.port, context=self.to_ca, timeout=scaled(30))
        sent = {name: headers[name] for name in ("Content-Type", "User-Agent") if name in headers}
        to.request(request.method, request.path, request.body or None, {**sent, "Host": f"localhost:{self.port}"})
        got = to.getresponse()
        answer = Answer(got.status, {name: got.headers[name] for name in PASSED if got.headers[name]}, got.read())
        to.close()
        if self.alter:
            self.alter(request, answer)
        return answer

    # --- certificates of our own for what was asked for

    def sign(self, name, start, end, key=None, alt=None):
        """For the key of the last order, or of the request in `key`; valid from `start` to `end` seconds from now. PEM with its chain."""
        request, out = self.dir / f"{name}.csr", self.dir / f"{name}.pem"
        request.write_bytes(self.csr)
        pem = subprocess.run(["openssl", "req", "-inform", "DER", "-in", request], check=True, capture_output=True, text=True).stdout
        request.write_text(pem)
        extensions = "authorityKeyIdentifier = keyid\nextendedKeyUsage = serverAuth\n" + (f"subjectAltName = {alt}\n" if alt else "")
        self.authority.sign(key or request, out, start / 86400, end / 86400, extensions)
        return (out.read_text() + open(self.authority.path("ca.pem"), encoding="ascii").read()).encode()
