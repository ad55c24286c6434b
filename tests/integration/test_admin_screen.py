# SPDX-License-Identifier: MIT OR Apache-2.0
"""`alknet-admin watch` on a terminal: a real pseudo-terminal, read as a terminal reads."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest

from harness import procs
from harness.waiting import patient, scaled, wait_until

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """What a program writes to a terminal, as lines; only the signs that the screen uses are known."""

    def __init__(self, argv, rows=24, columns=80, own=True, **environment):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.raw = b""
        self.popen = subprocess.Popen(
            [str(a) for a in argv], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=self._own if own else None,
            env=procs.environment(TERM="xterm", LC_ALL="C.UTF-8", **environment),
        )
        self.slave = slave
        os.set_blocking(self.master, False)

    @staticmethod
    def _own():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        try:
            while True:
                piece = os.read(self.master, 65536)
                if not piece:
                    break
                self.raw += piece
        except (BlockingIOError, OSError):
            pass
        return self.raw

    def frames(self):
        """Whole frames, as lists of lines."""
        out = []
        for part in self.read().split(b"\x1b[H")[1:]:
            if b"\x1b[J" in part:
                text = part.split(b"\x1b[J")[0].decode("utf-8", "strict")
                out.append(re.split(r"\r+\n", re.sub(r"\x1b\[[0-9?]*[a-zA-Z]", "", text)))
        return out

    def screen(self):
        frames = self.frames()
        return frames[-1] if frames else []

    def wait(self, condition, what):
        return wait_until(lambda: condition(self.screen()), 20, what)

    def end(self):
        def over():
            self.read()
            return self.popen.poll() is not None

        wait_until(over, 20, "the end of the program")
        self.read()
        return self.popen.returncode

    def close(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self.hang_up()
        os.close(self.slave)

    def hang_up(self):
        if self.master is not None:
            os.close(self.master)
        self.master = None


@pytest.fixture
def watching(server):
    terminals = []

    def start(*more, serving=None, **size):
        serving = serving or server(workers=1)
        terminal = Terminal([procs.alknet_admin(), "watch", "--socket", serving.admin, *more], **size)
        terminal.serving = serving
        terminals.append(terminal)
        return terminal

    yield start
    for terminal in terminals:
        terminal.close()


def as_before(terminal):
    assert termios.tcgetattr(terminal.slave) == terminal.before
    raw = terminal.raw
    assert raw.count(ENTER) == raw.count(LEAVE) and raw.rindex(LEAVE) > raw.rindex(ENTER)
    assert raw.rindex(b"\x1b[?25h") > raw.rindex(b"\x1b[?25l"), "the cursor is back"


def test_it_shows_sessions_and_events(watching, login, targets):
    terminal = watching()
    terminal.wait(lambda lines: lines and lines[0].startswith("alknet ") and "sessions 0" in lines[1], "the head")
    wire = login(terminal.serving, "anna")
    terminal.wait(lambda lines: any(" anna " in line for line in lines), "the session")
    terminal.wait(lambda lines: any("session.open" in line for line in lines), "the event")
    wire.open_channel(1, "127.0.0.1", targets.echo)
    terminal.wait(lambda lines: "channels 1" in lines[1], "the channel")
    wire.close()
    terminal.wait(lambda lines: "sessions 0" in lines[1] and any("session.close" in line for line in lines), "its end")
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    as_before(terminal)


@pytest.mark.parametrize("how", ["q", "ctrl-c", "SIGTERM", "SIGHUP"])
def test_it_leaves_the_terminal_as_it_was(watching, how):
    terminal = watching()
    terminal.wait(lambda lines: len(lines) > 1, "the screen")
    if how == "q":
        os.write(terminal.master, b"xq")
    elif how == "ctrl-c":
        os.write(terminal.master, b"\x03")
    else:
        os.kill(terminal.popen.pid, getattr(signal, how))
    assert terminal.end() == 0
    as_before(terminal)


def test_the_terminal_goes(watching):
    """It is not the program's own, so that no SIGHUP says so."""
    terminal = watching(own=False)
    terminal.wait(lambda lines: len(lines) > 1, "the screen")
    terminal.hang_up()
    terminal.popen.wait(scaled(20))


def test_the_server_goes(watching):
    terminal = watching()
    terminal.wait(lambda lines: len(lines) > 1, "the screen")
    terminal.serving.stop()
    assert terminal.end() == 1
    as_before(terminal)
    assert b"the server closed the connection" in terminal.raw[terminal.raw.rindex(LEAVE):]


@pytest.mark.parametrize("rows, columns", [(5, 20), (1, 10), (50, 200)])
def test_sizes(watching, login, rows, columns):
    """No line is wider and no frame higher than the terminal, whatever its size."""
    terminal = watching(rows=rows, columns=columns)
    login(terminal.serving, "anna")
    wait_until(lambda: len(terminal.frames()) > 2, 20, "some frames")
    for frame in terminal.frames():
        assert len(frame) <= rows and all(len(line) <= columns for line in frame), frame


def test_resize(watching):
    terminal = watching(columns=100)
    terminal.wait(lambda lines: len(lines) > 1 and "workers" in lines[1], "the screen")
    terminal.resize(10, 30)
    os.kill(terminal.popen.pid, signal.SIGWINCH)
    terminal.wait(lambda lines: all(len(line) <= 30 for line in lines) and len(lines) <= 10, "the smaller screen")


def test_utf8_and_escapes(watching, login):
    """A name in another script is shown as it is; one that would steer the terminal is not."""
    terminal = watching(columns=120)
    login(terminal.serving, "Jürgen☕")
    terminal.wait(lambda lines: any("Jürgen☕" in line for line in lines), "the name")
    for frame in terminal.read().split(b"\x1b[H")[1:]:
        assert not re.search(rb"\x1b(?!\[(?:[0-9?]*[hlmKJ]))", frame), "nothing but the screen's own signs"


def test_no_flicker(watching):
    """The screen is never cleared: a frame overwrites the one before."""
    terminal = watching()
    wait_until(lambda: len(terminal.frames()) > 3, 20, "some frames")
    assert b"\x1b[2J" not in terminal.raw


def test_suspended(watching):
    """Ctrl-Z gives the terminal back; fg draws the screen again."""
    terminal = watching()
    terminal.wait(lambda lines: len(lines) > 1, "the screen")
    os.kill(terminal.popen.pid, signal.SIGTSTP)

    def stopped():
        terminal.read()
        with open(f"/proc/{terminal.popen.pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"

    wait_until(stopped, 20, "the stop")
    terminal.read()
    as_before(terminal)
    frames = len(terminal.frames())
    os.kill(terminal.popen.pid, signal.SIGCONT)
    wait_until(lambda: len(terminal.frames()) > frames, 20, "another frame")
    os.write(terminal.master, b"q")
    assert terminal.end() == 0
    as_before(terminal)


@pytest.mark.parametrize("more, term", [(["--json"], "xterm"), ([], "dumb")])
def test_plain_lines(server, login, more, term):
    """No screen with --json, or on a terminal that cannot."""
    serving = server(workers=1)
    master, slave = pty.openpty()
    try:
        program = subprocess.Popen(
            [procs.alknet_admin(), "watch", "--socket", str(serving.admin), *more], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env=procs.environment(TERM=term),
        )
        os.set_blocking(master, False)
        text = b""

        def seen():
            nonlocal text
            login(serving, "anna").close()
            try:
                text += os.read(master, 65536)
            except BlockingIOError:
                pass
            return b"anna" in text

        wait_until(seen, 20, "the event")
        assert b"\x1b" not in text
        program.terminate()
        program.wait(patient(10))
    finally:
        os.close(master)
        os.close(slave)
