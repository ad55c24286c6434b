# SPDX-License-Identifier: MIT OR Apache-2.0
"""A program whose n-th call of a kind fails (faults.c)."""

import mmap
import re
import struct
from pathlib import Path

from . import compiler

KINDS = re.findall(r"X\((\w+)\)", (compiler.HERE / "faults.c").read_text().split("#define KINDS")[1].split("enum kind")[0])
HEAD = struct.Struct("=IIQiI")
SITE, SITE_SIZE = HEAD.size + 32 * 8, 1024


class Faults:
    """For the processes whose command line begins with `role`."""

    def __init__(self, directory, role):
        made = compiler.shared("faults", Path(directory) / "faults.so", "-ldl")
        self.file = open(Path(directory) / f"faults-{role}", "w+b")
        self.file.write(bytes(SITE + SITE_SIZE))
        self.file.flush()
        self.map = mmap.mmap(self.file.fileno(), SITE + SITE_SIZE)
        self.environment = {
            "LD_PRELOAD": str(made), "ALKNET_TEST_FAULTS": self.file.name, "ALKNET_TEST_FAULTS_ROLE": role,
        }

    def arm(self, kind, at, error):
        """From now on count; the `at`-th call of `kind` fails. 0: none does."""
        self.map[:] = HEAD.pack(0, KINDS.index(kind), at, error, 0) + bytes(SITE - HEAD.size + SITE_SIZE)
        self.map[:4] = struct.pack("=I", at > 0)

    def disarm(self):
        """Where it failed, innermost first; None when it did not come to that."""
        self.map[:4] = bytes(4)
        if not HEAD.unpack(self.map[: HEAD.size])[4]:
            return None
        return self.map[SITE:].split(b"\0")[0].decode().split()

    def count(self, kind):
        return struct.unpack_from("=Q", self.map, HEAD.size + 8 * KINDS.index(kind))[0]

    def close(self):
        self.map.close()
        self.file.close()
