# SPDX-License-Identifier: MIT OR Apache-2.0
"""C of the tests' own: plugins, and libraries that are loaded before others."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from . import procs

HERE = Path(__file__).resolve().parent.parent


def shared(name, made, *flags):
    """NAME.c of tests/integration as a shared library."""
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]):
        pytest.skip("no C compiler")
    source = HERE / f"{name}.c"
    subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-I", procs.ROOT / "include", source, "-o", made, *flags], check=True)
    made.chmod(0o755)
    return made


def preloaded(name, directory):
    """The environment that loads NAME.c before everything else."""
    if procs.is_sanitized():
        pytest.skip("a build with sanitizers does not let anything be loaded before them")
    return {"LD_PRELOAD": str(shared(name, Path(directory) / f"{name}.so"))}
