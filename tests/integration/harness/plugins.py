# SPDX-License-Identifier: MIT OR Apache-2.0
"""Plugins of the tests' own, built against include/ alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from . import procs

HERE = Path(__file__).resolve().parent.parent


def build(directory, name):
    """A plugin directory with tcp, forward, and NAME.c of this directory."""
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]):
        pytest.skip("no C compiler")
    plugins = directory / "plugins"
    plugins.mkdir(mode=0o755)
    for stem in ("tcp.so", "forward.so"):
        shutil.copy(Path(procs.plugin_dir()) / stem, plugins / stem)
        (plugins / stem).chmod(0o755)
    made = plugins / f"{name}.so"
    subprocess.run([*compiler, "-shared", "-fPIC", "-I", procs.ROOT / "include", HERE / f"{name}.c", "-o", made], check=True)
    made.chmod(0o755)
    return plugins
