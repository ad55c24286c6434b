# SPDX-License-Identifier: MIT OR Apache-2.0
"""The failure walk: in the life of a session (login, open, echo, close) each allocation and each system call fails in turn.

Whatever it is, nothing crashes, nothing stays open or allocated, and the next session is served. ALKNET_TEST_FULL=1 takes every
call; without it each walk takes a sample, spread evenly."""

import ctypes
import errno
import functools
import os
import socket

import pytest

from harness import faults, net, procs, sshwire
from harness.waiting import Settled, Timeout, wait_until

FULL = bool(os.environ.get("ALKNET_TEST_FULL"))
SHIPPED = os.path.join(os.environ.get("ALKNET_SRCDIR", procs.ROOT), "scripts", "policy.lua")
# These end the process themselves when memory or the kernel fails them, or lose what they had: docs/TESTING.md.
THEIRS = ("libev.so", "libssh.so", "libcrypto.so")

# What each call may well fail with. EAGAIN only where the program has to expect it.
ERRORS = {
    "accept4": ("EMFILE", "ENOBUFS", "ECONNABORTED", "EINTR", "EAGAIN"),
    "socket": ("EMFILE", "ENOBUFS", "ENOMEM"),
    "connect": ("ECONNREFUSED", "ENOBUFS", "EINTR", "EADDRNOTAVAIL"),
    "recv": ("ECONNRESET", "ENOMEM", "EINTR", "EAGAIN"),
    "send": ("ECONNRESET", "ENOBUFS", "EINTR", "EAGAIN"),
    "sendmsg": ("ENOBUFS", "EINTR", "EAGAIN"),
    "recvmsg": ("ENOBUFS", "ENOMEM", "EINTR", "EAGAIN"),  # between supervisor and worker: a reset is the other's end
    "recvfrom": ("ECONNRESET", "ENOMEM"),
    "sendto": ("ECONNRESET", "ENOBUFS"),
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "epoll_wait": ("EINTR",),
    "fcntl": ("EINVAL", "EINTR"),
    "setsockopt": ("ENOMEM", "EINVAL"),
    "getsockopt": ("ENOBUFS", "EINVAL"),
    "getsockname": ("ENOBUFS", "EINVAL"),
    "getpeername": ("ENOTCONN", "ENOBUFS"),
    "socketpair": ("EMFILE", "ENOMEM"),
    "read": ("EIO", "EINTR", "EAGAIN"),
    "write": ("EIO", "EINTR", "EAGAIN"),
    "writev": ("ECONNRESET", "ENOBUFS", "EINTR", "EAGAIN"),
    "shutdown": ("ENOTCONN",),
    "poll": ("ENOMEM",),
    "timerfd_create": ("EMFILE", "ENOMEM"),
    "timerfd_settime": ("EINVAL",),
}


def is_theirs(frames):
    """Was it one of those libraries who asked?"""
    names = (frame.rsplit("/", 1)[-1] for frame in frames)
    return next((name for name in names if not name.startswith("libc.so")), "").startswith(THEIRS)


def sample(count, most):
    """1..count, at most `most` of them, the first and the last among them."""
    if FULL or count <= most:
        return range(1, count + 1)
    return sorted({1 + n * (count - 1) // (most - 1) for n in range(most)})


class Walk:
    """One process of a server, and sessions with it from outside."""

    # How a session is lost. TypeError: the open was refused. ValueError: libssh lacked what it seals packets with.
    LOSS = (sshwire.Closed, OSError, EOFError, TypeError, ValueError)

    def __init__(self, start, keys, targets, shim):
        self.start, self.targets, self.shim = start, targets, shim
        self.key = sshwire.load_key(keys.path("user"))
        self.abortions, self.leaks, self.fired, self.lost, self.silent = [], {}, 0, 0, 0
        self.serving, self.site = None, ()
        self.begin()

    def begin(self):
        """Another server. One whose workers die young waits longer and longer before it starts the next."""
        if self.serving is not None:
            self.serving.stop()
        self.serving = self.start()
        self.session()
        self.session()
        self.pid = self.look()
        self.settle(None)
        self.files = self.baseline()

    def baseline(self):
        """What is open while nobody asks anything."""
        wait_until(Settled(lambda: len(self.open()), times=5), 20, "descriptors to settle")
        return self.open()

    def look(self):
        """The process that is walked through."""
        raise NotImplementedError

    def open(self):
        return sorted(name.split(":")[0] for name in procs.open_files(self.pid))

    def session(self, timeout=20):
        with sshwire.Wire(self.serving.port, timeout=timeout) as wire:
            channel, _ = wire.login(self.key).open_channel(1, "127.0.0.1", self.targets.echo)
            wire.data(channel, b"through it")
            assert wire.read(10) == b"through it"
            wire.send(bytes([sshwire.EOF]) + sshwire.u32(channel))
            wire.expect(sshwire.CLOSE)

    def settle(self, files):
        """All sessions are gone, for the server too, and what they had open."""
        wait_until(lambda: not self.serving.sessions(), 20, "the sessions to be gone")
        if files is not None:
            wait_until(lambda: self.open() == files, 20, f"{self.open()} to be {files} again")

    def works(self):
        try:
            self.session()
        except self.LOSS:
            return False
        return True

    def counted(self, kind):
        # What failed last may have cost a worker after all.
        wait_until(self.works, 20, "a session")
        self.settle(self.files)
        self.shim.arm(kind, 0, 0)
        count = self.life(kind)
        self.settle(self.files)
        return count

    def life(self, kind):
        """A session to which nothing happens, to the end of all that it had: how many come to that."""
        self.session()
        self.shim.disarm()
        self.settle(self.files)
        return self.shim.count(kind)

    def try_once(self):
        """A session while something fails: it may be lost, or wait for what libssh had no memory to say."""
        try:
            self.session(5)
        except self.LOSS:
            self.lost += 1
        except AssertionError as silence:
            # This session waits until one of the two gives up. The next does not.
            assert "said nothing" in str(silence), silence
            self.silent += 1

    def fail(self, kind, at, error):
        """Have it fail, and look whether the next session is served. Where it was; None: it was not, or ended the process."""
        self.shim.arm(kind, at, error)
        self.try_once()
        site = self.shim.disarm()
        if site is None:
            return None
        self.site = site
        what = f"{kind} {at} {errno.errorcode.get(error, error)} at {' '.join(site)}"
        problem = None
        try:
            self.session()
            self.settle(self.files)
        except Exception as failure:  # the process that was meant may be on its way out
            problem = failure
        if problem is None and procs.alive(self.pid):
            return what
        try:
            wait_until(lambda: not procs.alive(self.pid), 5, "the process to end")
        except Timeout:
            raise AssertionError(f"after {what}: {problem!r}\n{self.log()[-3000:]}") from problem
        assert is_theirs(site), f"the process ended: {what}\n{self.log()[-3000:]}"
        self.abortions.append(what)
        self.replaced(what)
        self.begin()
        return None

    def step(self, kind, at, error):
        abortions = len(self.abortions)
        what = self.fail(kind, at, error)
        self.fired += what is not None or len(self.abortions) > abortions
        if what is not None:
            self.look_for_leak(kind, at, error, what)

    def left(self):
        """Who asked for what was allocated while the shim watched and is there still, some sessions later.

        What Lua has is its collector's."""
        for _ in range(3):
            left = [who for _, who in self.shim.left(self.pid).values() if not any("liblua" in frame for frame in who[:4])]
            if not left or (is_theirs(self.site) and all(map(is_theirs, left))):
                return set()
            self.session()
            self.settle(self.files)
        return set(left)

    def look_for_leak(self, kind, at, error, what):
        """What a session left behind may be a table that has grown, for good: a leak is left each time."""
        left, same = self.left(), 0
        for _ in range(6):
            if not left or same == 2:
                break
            if self.fail(kind, at, error) == what:
                same += 1
                left &= self.left()
        if same == 2:
            self.leaks.update({who: what for who in left})

    def log(self):
        return self.serving.log()

    def replaced(self, what):
        """Another process has the ended one's work."""
        raise NotImplementedError

    def walk(self, kind, errors, most):
        count, left = self.counted(kind), self.left()
        for _ in range(2):
            if left:
                self.counted(kind)
                left &= self.left()
        assert not left, f"a session to which nothing happens leaves {left}"
        for error in errors:
            for at in sample(count, most):
                self.step(kind, at, error)
        assert not self.leaks, "\n".join(f"{what} leaves what {' '.join(who)} made" for who, what in self.leaks.items())
        return count


class WorkerWalk(Walk):
    def look(self):
        def one():
            ready = [w for w in self.serving.call("status")["workers"] if w["state"] == "ready"]
            return ready[0]["pid"] if ready else None

        return wait_until(one, 20, "a worker")

    def replaced(self, what):
        before = self.pid

        def another():
            assert self.serving.running(), f"the server ended {self.serving.popen.poll()}: {what}\n{self.log()[-3000:]}"
            return self.look() != before

        wait_until(another, 20, "another worker")
        self.session()
        self.settle(None)


class Asked:
    """One that answers questions: what is open while one connection of ours is, less that one. By its second answer those
    that came before it have gone, which no look from outside can tell."""

    def admin(self):
        return self.serving.admin

    def baseline(self):
        with procs.AdminClient(self.admin()) as admin:
            for _ in range(2):
                admin.call("status")
            found = self.open()
        found.remove("socket")
        return found


class SupervisorWalk(Asked, Walk):
    # How a question is lost. AssertionError: the admin socket closed without an answer.
    UNANSWERED = (procs.AdminError, OSError, ValueError, AssertionError)

    def look(self):
        return self.serving.pid

    def life(self, kind):
        """With one question, as in try_once(). Those that settle() asks are as many as it has to wait for."""
        self.session()
        self.serving.sessions()
        self.shim.disarm()
        return self.shim.count(kind)

    def try_once(self):
        """And a question after it: by then the session's end has come to this process, while something still fails."""
        super().try_once()
        try:
            self.serving.sessions()
        except TimeoutError:
            raise AssertionError(f"a question has no answer, and its connection is open, after {self.shim.disarm()}") from None
        except self.UNANSWERED:
            self.lost += 1

    def replaced(self, what):
        raise AssertionError(f"the server ended {self.serving.popen.poll()}: {what}\n{self.log()[-3000:]}")


class ClientWalk(Asked, Walk):
    """`alknet connect` makes a session, and a connection through it; `serving` is a server that nothing happens to."""

    LOSS = (procs.AdminError, net.ProxyRefused, OSError, EOFError, ValueError, AssertionError)

    def __init__(self, start, connect, *rest):
        self.connect, self.client = connect, None
        super().__init__(start, *rest)

    def begin(self):
        if self.client is not None:
            self.client.stop()
        self.serving = self.serving or self.start()
        self.client = self.connect(self.serving)
        self.session()
        self.session()
        self.pid = self.look()
        self.settle(None)
        self.files = self.baseline()

    def look(self):
        return self.client.pid

    def admin(self):
        return self.client.admin

    def session(self, timeout=20):
        self.client.call("reconnect", timeout)
        with net.socks_connect(self.client.port, "127.0.0.1", self.targets.echo, timeout=timeout) as sock:
            sock.sendall(b"through it")
            assert net.recv_exact(sock, 10) == b"through it"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""

    def settle(self, files):
        def is_quiet():
            status = self.client.call("status")
            return status["state"] == "up" and status["channels"] == status["waiting"] == 0

        wait_until(is_quiet, 20, "the connections to be gone")
        if files is not None:
            wait_until(lambda: self.open() == files, 20, f"{self.open()} to be {files} again")

    def log(self):
        return self.client.log()

    def replaced(self, what):
        """Whoever started it starts it again: libssh is in this process, too."""
        self.client.expected_status = None


@pytest.fixture
def walk(server, client, keys, targets, tmp_path):
    made = []

    def start(role, kind):
        if procs.is_sanitized():
            pytest.skip("a build with sanitizers does not let anything be loaded before them")
        shim = faults.Faults(tmp_path, role)
        made.append(shim)
        serve = functools.partial(server, "--policy", SHIPPED, workers=1)
        environment = procs.environment(**shim.environment)
        if kind is not ClientWalk:
            return kind(functools.partial(serve, env=environment), keys, targets, shim)
        flags = ("--admin-socket", tmp_path / "client.sock", "--handshake-timeout", "10s", "--log-level", "info")
        return kind(serve, lambda to: client(to, *flags, env=environment), keys, targets, shim)

    yield start
    for shim in made:
        shim.close()


WALKS = pytest.mark.parametrize(
    "role,kind", [("worker", WorkerWalk), ("serve", SupervisorWalk), ("connect", ClientWalk)], ids=["worker", "supervisor", "client"])


def taken_from(pid, fd):
    """One of a process's descriptors, which lives on here when it is closed there."""
    libc, own = ctypes.CDLL(None, use_errno=True), os.pidfd_open(pid)
    try:
        got = libc.syscall(438, own, fd, 0)  # pidfd_getfd
    finally:
        os.close(own)
    if got < 0:
        pytest.skip(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
    return got


def test_signals_are_heard_after_a_shortage(walk):
    """The loop makes its watches anew when an event is of a descriptor that it has closed. One that cannot be made then is made
    later; also the one that signals come by."""
    walking = walk("serve", SupervisorWalk)
    serving, shim = walking.serving, walking.shim
    before = set(os.listdir(f"/proc/{serving.pid}/fd"))
    with procs.AdminClient(serving.admin) as admin:
        admin.call("status")
        (fd,) = set(os.listdir(f"/proc/{serving.pid}/fd")) - before
        held = taken_from(serving.pid, int(fd))
        try:
            # The event changes the watch, then deletes it: the kernel does not know it by that number any more. The third is anew.
            shim.arm("epoll_ctl", 3, errno.ENOMEM)
            admin.__exit__()
            wait_until(shim.fired, 20, "the watches to be made anew, but for one")
            shim.disarm()
        finally:
            os.close(held)
    serving.call("status")
    assert serving.stop() == 0


@pytest.mark.slow
@WALKS
def test_each_allocation_fails(walk, role, kind):
    walking = walk(role, kind)
    count = walking.walk("malloc", [errno.ENOMEM], 40)
    print(f"{role}: {walking.fired} of {count} allocations, {walking.lost} sessions ended, {walking.silent} waited, {walking.abortions}")
    # A session that fails early does not come to all that one which lives does.
    assert walking.fired >= (count if FULL else 40) // 2


@pytest.mark.slow
@WALKS
def test_each_call_fails(walk, role, kind):
    walking = walk(role, kind)
    for call, errors in ERRORS.items():
        count = walking.walk(call, [getattr(errno, name) for name in errors], 3)
        print(f"{role}: {call} {count}")
    print(f"{role}: {walking.fired} failed, {walking.lost} sessions ended, {walking.silent} waited, {walking.abortions}")
    # To the supervisor a session is a handful, fewer where several come in one turn.
    assert walking.fired >= (5 if role == "serve" else 11)
