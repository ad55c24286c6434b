# SPDX-License-Identifier: MIT OR Apache-2.0
"""A program whose n-th call of a kind fails (faults.c)."""

import mmap
import os
import re
import struct
from pathlib import Path

from . import compiler
from .waiting import wait_until

KINDS = re.findall(r"X\((\w+)\)", (compiler.HERE / "faults.c").read_text().split("#define KINDS")[1].split("enum kind")[0])
HEAD = struct.Struct("=IIQiI")
SITE, SITE_SIZE = HEAD.size + 32 * 8, 1024
WATCH = SITE + SITE_SIZE
FAILING = WATCH + 8
TABLE = WATCH + 16
BLOCKS, BLOCK = 16384, struct.Struct("=10Q")
SIZE = TABLE + BLOCKS * BLOCK.size


class Modules:
    """The programs and libraries of a process."""

    def __init__(self, pid):
        self.ranges = []
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, _, offset, _, _, *path = line.split(maxsplit=5)
            low, high = (int(n, 16) for n in span.split("-"))
            self.ranges.append((low, high, int(offset, 16), path[0] if path else "?"))

    def place(self, address):
        """PATH+OFFSET, as addr2line takes it of what is position independent."""
        for low, high, offset, path in self.ranges:
            if low <= address < high:
                return f"{path}+{address - low + offset:#x}"
        return "?"


class Faults:
    """For the processes whose command line begins with `role`."""

    def __init__(self, directory, role):
        made = compiler.shared("faults", Path(directory) / "faults.so", "-ldl")
        self.file = open(Path(directory) / f"faults-{role}", "w+b")
        self.file.write(bytes(SIZE))
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), SIZE)
        self.environment = {
            "LD_PRELOAD": str(made), "ALKNET_TEST_FAULTS": self.file.name, "ALKNET_TEST_FAULTS_ROLE": role,
        }

    def arm(self, kind, at, error):
        """From now on count, and watch what is allocated; the `at`-th call of `kind` fails. 0: none does."""
        self.map[:] = HEAD.pack(0, KINDS.index(kind), at, error, 0) + bytes(SIZE - HEAD.size)
        self.map[WATCH : WATCH + 4] = struct.pack("=I", 1)
        self.map[:4] = struct.pack("=I", at > 0)

    def disarm(self):
        """Where it failed, innermost first; None when it did not come to that. What comes now is not watched.

        A call that is about to fail at this moment has failed when this returns: two at a time would be another fault."""
        self.map[:4] = bytes(4)
        os.sched_yield()  # by then the other processor knows
        wait_until(lambda: self.map[FAILING : FAILING + 4] == bytes(4), 20, "a call to have failed")
        self.map[WATCH : WATCH + 4] = bytes(4)
        if not self.fired():
            return None
        return self.map[SITE:].split(b"\0")[0].decode().split()

    def fired(self):
        return HEAD.unpack(self.map[: HEAD.size])[4] != 0

    def count(self, kind):
        return struct.unpack_from("=Q", self.map, HEAD.size + 8 * KINDS.index(kind))[0]

    def left(self, pid):
        """What was watched and is still alive: {address: (size, who asked for it)}."""
        assert struct.unpack_from("=I", self.map, WATCH + 4)[0] == 0, "more blocks than there is room for"
        blocks = [block for block in BLOCK.iter_unpack(self.map[TABLE:]) if block[0] > 1]
        modules = Modules(pid) if blocks else None
        return {block[0]: (block[1], tuple(modules.place(frame) for frame in block[2:] if frame)) for block in blocks}

    def close(self):
        self.map.close()
        self.file.close()
