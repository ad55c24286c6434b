# SPDX-License-Identifier: MIT OR Apache-2.0
"""A program with a terminal of its own, and who types there."""

import os
import pty
import select

from . import procs
from .waiting import wait_until


class Terminal:
    """A program with a terminal of its own."""

    def __init__(self, argv, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, env or procs.environment())
        self.seen = ""

    def read(self):
        while select.select([self.fd], [], [], 0)[0]:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                break
            if not data:
                break
            self.seen += data.decode("utf-8", "replace")
        return self.seen

    def expect(self, text):
        wait_until(lambda: text in self.read(), 15, f"{text!r} on the terminal, seen {self.seen!r}")

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """Wait for the program; gives its exit status."""
        done = []

        def ended():
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                done.append(status)
            return pid

        wait_until(ended, 15, "the program to end")
        self.read()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(done[0])

    def terminate(self):
        os.kill(self.pid, 15)
        return self.end()
