# SPDX-License-Identifier: MIT OR Apache-2.0
"""A program whose wall clock and clock of the boot can be moved while it runs (clocks.c)."""

import mmap
import struct
from pathlib import Path

from . import compiler


class Clocks:
    def __init__(self, directory):
        preload = compiler.preloaded("clocks", directory)
        self.file = open(Path(directory) / "clocks", "w+b")
        self.file.write(bytes(16))
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), 16)
        self.environment = {**preload, "ALKNET_TEST_CLOCKS": self.file.name}

    def move(self, wall=0, boot=0):
        """Seconds, as a sum since the start."""
        self.map[:16] = struct.pack("=qq", wall, boot)

    def close(self):
        self.map.close()
        self.file.close()
