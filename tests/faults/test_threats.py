# SPDX-License-Identifier: MIT OR Apache-2.0
"""docs/TESTING.md says which files meet a row of the threat model: is there such a test?"""

import re

from harness.procs import ROOT


def test_each_row_has_its_tests():
    text = (ROOT / "docs" / "TESTING.md").read_text()
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", text[text.index("## Rows and tests") :], re.M)
    said = {int(number): set(re.findall(r"`([^`]+)`", files)) for number, files in rows}
    assert len(said) > 40
    found = {}
    for directory, before in (("integration", ""), ("faults", "faults/")):
        for file in (ROOT / "tests" / directory).glob("test_*.py"):
            for name in re.findall(r"^def test_((?:t\d\d_)+)", file.read_text(), re.M):
                for number in re.findall(r"t(\d\d)_", name):
                    found.setdefault(int(number), set()).add(before + file.name)
    assert set(found) == set(said)
    for number, files in said.items():
        assert files <= found[number], f"row {number}"
