# SPDX-License-Identifier: MIT OR Apache-2.0
"""Faults: the integration ring's fixtures, all of them, and sizes.

ALKNET_FAULTS=long   the sizes that issue a release: 10 000 sessions, 100 000 channels, more rounds (about twenty minutes)
ALKNET_FAULTS_SEED   what chance begins with; each test that throws dice prints it"""

import importlib.util
import os
import random
import resource
import sys
from pathlib import Path

import pytest

INTEGRATION = Path(__file__).resolve().parent.parent / "integration"
sys.path.insert(0, str(INTEGRATION))
_spec = importlib.util.spec_from_file_location("integration_fixtures", INTEGRATION / "conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
globals().update({name: value for name, value in vars(_fixtures).items() if not name.startswith("_")})

LONG = os.environ.get("ALKNET_FAULTS") == "long"


def pytest_sessionstart(session):
    """Thousands of sessions end in this process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def size():
    """size(SHORT, LONG)"""
    return lambda short, long: long if LONG else short


@pytest.fixture
def chance():
    seed = int(os.environ.get("ALKNET_FAULTS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ALKNET_FAULTS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def root():
    if os.geteuid() != 0:
        pytest.skip("only root can look into processes that leave no core, and mount")
