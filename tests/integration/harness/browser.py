# SPDX-License-Identifier: MIT OR Apache-2.0
"""Chromium without a window, spoken to over two pipes in its DevTools protocol."""

import fcntl
import json
import os
import shutil
import signal
import subprocess

from .waiting import scaled, wait_until

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe"]


def find():
    return shutil.which("chromium")


class Browser:
    def __init__(self, directory, *flags):
        to_read, self.write_fd = os.pipe()
        self.read_fd, to_write = os.pipe()

        def descriptors():
            # Where the browser looks for them. Through numbers that nothing has, so that none is closed under another.
            reading, writing = (fcntl.fcntl(fd, fcntl.F_DUPFD, 5) for fd in (to_read, to_write))
            os.dup2(reading, 3)
            os.dup2(writing, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        self.path = directory / "chromium.log"
        self.log = open(self.path, "wb")
        self.process = subprocess.Popen(
            [find(), *FLAGS, f"--user-data-dir={directory / 'profile'}", *flags, "about:blank"], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, preexec_fn=descriptors, close_fds=False, start_new_session=True,
            env={**os.environ, "HOME": str(directory)})
        os.close(to_read)
        os.close(to_write)
        self.number, self.rest = 0, b""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method, session=None, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.write_fd, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                got = os.read(self.read_fd, 65536)
                assert got, "the browser is gone, after: " + self.said()
                self.rest += got
            answer, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(answer)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def said(self):
        return self.path.read_text(errors="replace")[-2000:]

    def go(self, url):
        return self.ask("Page.navigate", self.session, url=url)

    def value(self, expression):
        return self.ask("Runtime.evaluate", self.session, expression=expression, returnByValue=True)["result"].get("value")

    def until(self, expression, what):
        wait_until(lambda: self.value(expression), scaled(30), what)

    def close(self):
        os.close(self.write_fd)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.read_fd)
        self.log.close()
