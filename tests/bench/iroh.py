#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the iroh transport costs: bulk through alknet over tcp, tls and iroh, beside raw iroh (the same crate, two processes,
one stream, no SSH). README.md says how to read it."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench  # noqa: E402
import covered  # noqa: E402
import measures  # noqa: E402
from harness import iroh, procs  # noqa: E402

# Of raw iroh, beside what SSH costs over tcp.
GOAL = 1.25


class Options:
    def __init__(self, total):
        self.bytes, self.scale = total, 1.0


def raw(lab, total):
    """CPU seconds a GB, both ends, and MB/s, of each direction."""
    out = {}
    serving = iroh.Tool("alknet-iroh-testing", ["raw"], lab.dir / f"raw{time.monotonic_ns()}.log")
    lab.running.append(serving)
    found = serving.wait_log(r"^raw ([0-9a-f]{64}) (\S+)$")
    for way in ("up", "down"):
        before = covered.cpu(serving.pid)
        moving = iroh.Tool("alknet-iroh-testing", ["move", found[1], found[2], way, str(total)], lab.dir / f"move{time.monotonic_ns()}.log")
        lab.running.append(moving)
        seconds = float(moving.wait_log(r"^moved \d+ (\S+)$", 120)[1])
        used = covered.cpu(serving.pid) - before + covered.cpu(moving.pid)
        out[f"{way}: both CPU s/GB"], out[f"{way}: MB/s"] = used / total * 1e9, total / seconds / 1e6
        moving.finish()
    lab.stop()
    return out


def over_iroh(lab):
    lab.count += 1
    place = lab.dir / f"iroh{lab.count}"
    place.mkdir()
    ends = iroh.Ends(lab.keys, place, lab.running)
    serving = ends.serve()
    connecting = ends.connect(serving)
    serving.user = connecting.user = iroh.USER
    return serving, connecting


def tunnel(lab, kind, total):
    if kind == "iroh":
        serving, connecting = over_iroh(lab)
    else:
        name = {"tcp": "alknet", "tls": "alknettls"}[kind]
        serving = lab.serve(name)
        connecting = lab.connect(name, serving)
    ends = measures.Ends(lab, serving, connecting, Options(total))
    ends.cpu = lambda: (covered.cpu(serving.pid), covered.cpu(connecting.pid))
    ends.warm()
    out = {row: value for row, value in measures.bulk(ends).items() if "both" in row or "MB/s" in row}
    out["64 B alone: p50 us"], _ = measures.round_trips(ends, 1000)
    lab.stop()
    return out


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("-r", "--rounds", type=int, default=3, help="rounds, interleaved; the median counts")
    parser.add_argument("-n", "--bytes", type=int, default=1 << 29, help="bytes of one transfer")
    parser.add_argument("-o", "--output", default="bench-iroh.json", help="where the numbers go as JSON")
    options = parser.parse_args(argv)
    lab, found = bench.Lab("aes256-gcm@openssh.com"), {}
    try:
        for number in range(options.rounds):
            for kind in ("raw", "tcp", "tls", "iroh"):
                bench.say(f"round {number + 1} of {options.rounds}: {kind}")
                taken = raw(lab, options.bytes) if kind == "raw" else tunnel(lab, kind, options.bytes)
                for row, value in taken.items():
                    found.setdefault(kind, {}).setdefault(row, []).append(value)
    finally:
        lab.close()
    medians = {kind: {row: statistics.median(values) for row, values in rows.items()} for kind, rows in found.items()}
    rows = list(dict.fromkeys(row for kind in medians.values() for row in kind))
    print(f"{'':24}" + "".join(f"{kind:>12}" for kind in medians))
    for row in rows:
        print(f"{row:24}" + "".join(f"{medians[kind].get(row, float('nan')):12.2f}" for kind in medians))
    for way in ("up", "down"):
        row = f"{way}: both CPU s/GB"
        most = GOAL * medians["raw"][row] + medians["tcp"][row]
        good = medians["iroh"][row] <= most
        print(f"{'reached' if good else 'MISSED '}  {row}: {medians['iroh'][row]:.2f} <= {GOAL} x raw + tcp = {most:.2f}")
    Path(options.output).write_text(json.dumps({"bytes": options.bytes, "medians": medians, "rounds": found}, indent=2) + "\n", encoding="ascii")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.SubprocessError as error:
        sys.exit(f"iroh.py: {error}")
