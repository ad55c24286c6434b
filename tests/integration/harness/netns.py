# SPDX-License-Identifier: MIT OR Apache-2.0
"""A network namespace (and one of mounts) of a test's own, with a loopback and nothing else."""

import contextlib
import ctypes
import os
import shutil
import subprocess

import pytest

from .waiting import wait_until

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    def __init__(self):
        if os.geteuid() != 0:
            pytest.skip("only root may make a network namespace")
        for program in ("unshare", "nsenter", "ip"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed")
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", "ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        if self.holder.stdout.readline() != b"up\n":
            why = self.holder.stderr.read().decode()
            self.close()
            pytest.skip(f"no network namespace here: {why}")
        self.wrap = ["nsenter", "-t", str(self.holder.pid), "-n", "-m", "-r"]

    def run(self, *words, data=None):
        return subprocess.run([*self.wrap, *words], input=data, check=True, capture_output=True, text=True).stdout

    def firewall(self, rules):
        """An nftables script; "flush ruleset" takes it away again."""
        if not shutil.which("nft"):
            pytest.skip("nft is not installed")
        try:
            self.run("nft", "list", "ruleset")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no nftables here: {error.stderr}")
        self.run("nft", "-f", "-", data=rules)

    @contextlib.contextmanager
    def inside(self):
        """Sockets that this thread makes meanwhile are in the namespace."""
        back = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        try:
            _setns(there)
            try:
                yield
            finally:
                _setns(back)
        finally:
            os.close(back)
            os.close(there)

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.stderr.close()
        wait_until(lambda: self.holder.poll() is not None, 10, "the namespace to end")
