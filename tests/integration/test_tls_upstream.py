# SPDX-License-Identifier: MIT OR Apache-2.0
"""Visitors of a web server behind a stealth port who do not take what it says."""

import contextlib
import os
import socket
import ssl
import threading
import time

import pytest

from harness import procs
from harness.waiting import patient, wait_until
from test_tls import NAME, authority, client_context, serve_flags  # noqa: F401

pytestmark = pytest.mark.part("tls")

SCALE = 6  # nginx's 60 s between two writes are ten


class Web:
    """Answers who asks with a page that has no end; `leaves`: it goes when nothing of it was taken for a while, as a web server does."""

    def __init__(self, leaves):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.leaves, self.asked, self.stopped = leaves, threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with contextlib.suppress(OSError):
            self.answer(self.listener.accept()[0])

    def answer(self, sock):
        with sock:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = sock.recv(1)
                if not piece:
                    return
                head += piece
            self.asked.set()
            sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while True:
                    sock.sendall(bytes(65536))
            if not self.leaves:
                self.stopped.wait()

    def close(self):
        self.stopped.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


@pytest.fixture
def web(request):
    made = Web(request.param)
    yield made
    made.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into processes that leave no core")
@pytest.mark.parametrize("web", [False, True], indirect=True, ids=["stays", "leaves"])
def test_t67_visitor_who_takes_nothing(server, authority, web):  # noqa: F811
    """He is ended as late as by nginx, and without a word, whether or not the web server behind has given him up."""
    port = web.listener.getsockname()[1]
    serving = server(
        *serve_flags(authority), "--stealth", conf=f'stealth_upstream = "127.0.0.1:{port}"', workers=1,
        env=procs.environment(ALKNET_STEALTH_SCALE=str(SCALE)),
    )
    context = client_context(authority)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    [worker] = serving.workers()
    before = len(procs.open_files(worker))
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(patient(20))
        raw.connect(("127.0.0.1", serving.port))
        with context.wrap_socket(raw, server_hostname=NAME, suppress_ragged_eofs=False) as sock:
            begun = time.monotonic()
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert web.asked.wait(patient(20))
            wait_until(lambda: len(procs.open_files(worker)) == before, 20, "the visitor to be ended")
            assert time.monotonic() - begun > 60 / SCALE - 0.2
            with pytest.raises((ssl.SSLError, ConnectionResetError), match="EOF|reset"):
                while sock.recv(65536):
                    pass
