# SPDX-License-Identifier: MIT OR Apache-2.0
"""A program whose wall clock and clock of the boot can be moved while it runs (clocks.c)."""

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from . import procs

SOURCE = Path(__file__).resolve().parent.parent / "clocks.c"


class Clocks:
    def __init__(self, directory):
        if procs.is_sanitized():
            pytest.skip("a build with sanitizers does not let anything be loaded before them")
        compiler = os.environ.get("CC", "gcc").split()
        if not shutil.which(compiler[0]):
            pytest.skip("no C compiler")
        library = Path(directory) / "clocks.so"
        subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self.file = open(Path(directory) / "clocks", "w+b")
        self.file.write(bytes(16))
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), 16)
        self.environment = {"LD_PRELOAD": str(library), "ALKNET_TEST_CLOCKS": self.file.name}

    def move(self, wall=0, boot=0):
        """Seconds, as a sum since the start."""
        self.map[:16] = struct.pack("=qq", wall, boot)

    def close(self):
        self.map.close()
        self.file.close()
