# SPDX-License-Identifier: MIT OR Apache-2.0
"""The one place where a test waits: for a condition, never for a time."""

import os
import threading
import time

# Deadlines are multiplied by this (a build with sanitizers is slow).
SCALE = float(os.environ.get("ALKNET_TEST_SCALE", "1"))

# A condition that comes late is no fault by itself: the disk of a shared machine can stall for longer than what we expect takes.
# Who claims that something is fast measures it, and compares with scaled().
PATIENCE = 3

_pause = threading.Event()


class Timeout(AssertionError):
    pass


def scaled(seconds):
    return seconds * SCALE


def patient(seconds):
    """How long to wait for what is expected to take so long at most."""
    return PATIENCE * scaled(seconds)


def wait_until(condition, timeout=20, what="the condition"):
    """Return the first true value of condition(); fail when it does not come in patient(timeout)."""
    deadline = time.monotonic() + patient(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"waited {patient(timeout):g} s for {what}")
        _pause.wait(0.02)


class Settled:
    """A condition: a number did not change (by more than `slack`) over `times` looks."""

    def __init__(self, read, times=15, slack=0):
        self.read, self.times, self.slack = read, times, slack
        self.last, self.same = None, 0

    def __call__(self):
        now = self.read()
        if self.last is not None and abs(now - self.last) <= self.slack:
            self.same += 1
        else:
            self.same = 0
            self.last = now
        return self.same >= self.times
