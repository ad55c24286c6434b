# SPDX-License-Identifier: MIT OR Apache-2.0
"""What stands in the memory of another process. Needs root: the programs may not be looked into."""


def memory_of(pid):
    """All that can be read of a process, region by region."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            place, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            start, end = (int(x, 16) for x in place.split("-"))
            try:
                mem.seek(start)
                yield mem.read(end - start)
            except (OSError, ValueError):
                continue


def found_in(pid, needles):
    return {name for region in memory_of(pid) for name, needle in needles.items() if needle in region}
