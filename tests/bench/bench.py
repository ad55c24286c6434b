#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Measure alknet beside OpenSSH, in the same run, with the same cipher. README.md says how to read it."""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import covered  # noqa: E402
import measures  # noqa: E402
from harness import procs, sshwire  # noqa: E402

PAIRS = ("openssh+openssh", "alknet+alknet", "alknet+openssh", "openssh+alknet")
# Inside TLS or no SSH at all; asked for by name.
COVERED = ("alknettls+alknettls", "stunnel+stunnel", "trojan+trojan", "shadowsocks+shadowsocks")
BASE = PAIRS[0]


class Lab:
    """Keys, targets and one pair at a time, in a directory of its own."""

    def __init__(self, cipher):
        self.dir = Path(tempfile.mkdtemp(prefix="alknet-bench."))
        self.cipher = cipher
        self.keys = procs.Keys(self.dir)
        self.targets = procs.Targets(self.dir)
        self.running = []
        self.count = 0

    def close(self):
        self.stop()
        self.targets.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def stop(self):
        while self.running:
            self.running.pop().kill()

    def serve(self, kind, *flags):
        self.count += 1
        name = f"serve{self.count}"
        if kind == "openssh":
            program = procs.start_sshd(self.keys, self.dir, f"Ciphers {self.cipher}", name)
            program.user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
            program.wire = sshwire.Wire
            self.running.append(program)
        elif kind in covered.SERVE:
            program = covered.SERVE[kind](self, name)
        else:
            argv = [procs.alknet(), "serve", "--key", self.keys.path("host"), "--authorized-keys", self.keys.authorized]
            argv += ["--listen", "127.0.0.1:0", "--admin-socket", "none", *flags, *(covered.serve_flags(self) if kind == "alknettls" else ())]
            program = procs.Server(argv, self.dir / f"{name}.log")
            self.running.append(program)
            program.find_port()
            program.user = "bench"
            program.wire = covered.wire if kind == "alknettls" else sshwire.Wire
        return program

    def connect(self, kind, to):
        self.count += 1
        name = f"connect{self.count}"
        if kind == "openssh":
            program = procs.start_ssh_socks(self.keys, self.dir, to.port, to.user, "-c", self.cipher, name=name)
            self.running.append(program)
        elif kind in covered.CONNECT:
            program = covered.CONNECT[kind](self, name, to)
        else:
            known = self.keys.known_hosts(self.dir / f"{name}_known", to.port)
            argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{to.port}", "--identity", self.keys.path("user")]
            argv += ["--user", to.user, "--known-hosts", known, "--socks5", "127.0.0.1:0"]
            argv += covered.CONNECT_FLAGS if kind == "alknettls" else []
            program = procs.Client(argv, self.dir / f"{name}.log")
            self.running.append(program)
            program.find_port()
        return program


def run_rounds(lab, options):
    """{pair: {row: [a value a round]}}; the pairs take turns inside each round."""
    found = {pair: {} for pair in options.pairs}
    errors = []
    for number in range(options.rounds):
        for pair in options.pairs:
            left, right = pair.split("+")
            for name in options.what:
                if pair in COVERED and name not in measures.COVERED.get(left, ()):
                    continue
                once = name in measures.ONCE
                if once and number > 0:
                    continue
                say(f"round {number + 1} of {options.rounds}: {pair}: {name}")
                try:
                    serving = lab.serve(left)
                    connecting = lab.connect(right, serving)
                    ends = measures.Ends(lab, serving, connecting, options)
                    ends.warm()
                    for row, value in measures.ALL[name](ends).items():
                        found[pair].setdefault(row, []).append(value)
                except (AssertionError, OSError, EOFError, subprocess.SubprocessError) as error:
                    errors.append(f"{pair}, {name}: {type(error).__name__}: {error}")
                    say(errors[-1])
                finally:
                    lab.stop()
    return found, errors


def say(text):
    print(text, file=sys.stderr, flush=True)


def version(*words):
    out = subprocess.run(words, capture_output=True, text=True, check=False)
    return (out.stdout + out.stderr).strip().splitlines()[0]


def ratio(row, medians, pair):
    base, value = medians.get(BASE, {}).get(row), medians[pair].get(row)
    return None if pair == BASE or not base or value is None else value / base


def table(medians, pairs):
    """Rows down, pairs across; behind each number its ratio to OpenSSH's own pair."""
    rows = list(dict.fromkeys(row for pair in pairs for row in medians[pair]))
    width = max([len(row) for row in rows] + [4])
    out = [f"{'':{width}}" + "".join(f"{pair:>26}" for pair in pairs)]
    for row in rows:
        line = f"{row:{width}}"
        for pair in pairs:
            value, part = medians[pair].get(row), ratio(row, medians, pair)
            text = "-" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
            line += f"{text:>16}" + (f"  ({part:6.3f})" if part is not None else " " * 10)
        out.append(line)
    return "\n".join(out)


def goals(medians, pairs):
    """What the project promises of itself: each promise against this run."""
    out = []
    for row, pair, bound, better in measures.GOALS:
        if pair not in pairs:
            continue
        part = ratio(row, medians, pair)
        if part is None:
            continue
        good = part <= bound if better == "lower" else part >= bound
        out.append({"row": row, "pair": pair, "ratio": part, "goal": bound, "better": better, "reached": good})
    for row, pair, bound, better in measures.BOUNDS:
        value = medians.get(pair, {}).get(row)
        if value is not None:
            good = value <= bound if better == "lower" else value >= bound
            out.append({"row": row, "pair": pair, "value": value, "goal": bound, "better": better, "reached": good})
    return out + covered.goals(medians)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("pairs", nargs="*", metavar="SERVER+CLIENT", default=list(PAIRS), help=f"each alknet or openssh; or {', '.join(COVERED)}")
    parser.add_argument("-r", "--rounds", type=int, default=3, help="rounds, interleaved; the median counts")
    parser.add_argument("-w", "--what", default=",".join(measures.ALL), help="measures to take")
    parser.add_argument("-n", "--bytes", type=int, default=1 << 30, help="bytes of one bulk transfer")
    parser.add_argument("-i", "--idle", default="100,1000", help="numbers of idle sessions")
    parser.add_argument("-o", "--output", default="bench.json", help="where the numbers go as JSON")
    parser.add_argument("--cipher", default="aes256-gcm@openssh.com", help="what OpenSSH is told to use, at both ends")
    parser.add_argument("--quick", action="store_true", help="one round of everything, small: does it run?")
    options = parser.parse_args(argv)
    options.what = options.what.split(",")
    for name in options.what:
        if name not in measures.ALL:
            parser.error(f"no measure {name}; there are {', '.join(measures.ALL)}")
    for pair in options.pairs:
        if pair not in (*PAIRS, *COVERED):
            parser.error(f"no pair {pair}; there are {', '.join((*PAIRS, *COVERED))}")
    options.idle = [int(n) for n in options.idle.split(",") if n]
    options.scale = 1.0
    if options.quick:
        options.rounds, options.bytes, options.idle, options.scale = 1, 1 << 26, [20], 0.1
    return options


def main(argv):
    options = parse(argv)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        sanitized = procs.is_sanitized()
    except FileNotFoundError as error:
        say(f"bench.py: {error}")
        return 2
    if sanitized:
        say("this is a build with sanitizers: its numbers mean nothing")
    lab = Lab(options.cipher)
    try:
        found, errors = run_rounds(lab, options)
    finally:
        lab.close()
    medians = {pair: {row: statistics.median(values) for row, values in rows.items()} for pair, rows in found.items()}
    reached = goals(medians, options.pairs)
    print(table(medians, options.pairs))
    for goal in reached:
        number = goal.get("ratio", goal.get("value"))
        sign = "<=" if goal["better"] == "lower" else ">="
        print(f"{'reached' if goal['reached'] else 'MISSED '}  {goal['pair']}: {goal['row']}{', ' + goal['of'] if 'of' in goal else ''}: {number:.3f} {sign} {goal['goal']:.3f}")
    for error in errors:
        print(f"failed   {error}")
    report = {
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "machine": platform.machine()},
        "versions": {"alknet": version(procs.alknet(), "--version"), "ssh": version("ssh", "-V")},
        "options": {"rounds": options.rounds, "bytes": options.bytes, "idle": options.idle, "cipher": options.cipher},
        "values": found, "medians": medians, "goals": reached, "errors": errors,
        "ratios": {pair: {row: ratio(row, medians, pair) for row in medians[pair]} for pair in options.pairs if pair != BASE},
    }
    Path(options.output).write_text(json.dumps(report, indent=1) + "\n", encoding="ascii")
    say(f"the numbers are in {options.output}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
