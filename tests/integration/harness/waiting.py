# SPDX-License-Identifier: MIT OR Apache-2.0
"""The one place where a test waits: for a condition, never for a time."""

import os
import threading
import time

# Deadlines are multiplied by this (a build with sanitizers is slow).
SCALE = float(os.environ.get("ALKNET_TEST_SCALE", "1"))

_pause = threading.Event()


class Timeout(AssertionError):
    pass


def scaled(seconds):
    return seconds * SCALE


def wait_until(condition, timeout=20, what="the condition"):
    """Return the first true value of condition(); fail after `timeout` scaled seconds."""
    deadline = time.monotonic() + scaled(timeout)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"waited {scaled(timeout):g} s for {what}")
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
