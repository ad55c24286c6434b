# SPDX-License-Identifier: MIT OR Apache-2.0
"""Plugins of the tests' own, built against include/ alone."""

import shutil
from pathlib import Path

from . import compiler, procs


def build(directory, name, *others):
    """A plugin directory with tcp, forward, the others, and NAME.c of tests/integration."""
    plugins = directory / "plugins"
    plugins.mkdir(mode=0o755)
    for stem in ("tcp", "forward", *others):
        shutil.copy(Path(procs.plugin_dir()) / f"{stem}.so", plugins / f"{stem}.so")
        (plugins / f"{stem}.so").chmod(0o755)
    compiler.shared(name, plugins / f"{name}.so")
    return plugins
