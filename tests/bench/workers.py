#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""How much more do N workers carry than one? Many sessions move data at once; what the clients cost is set aside.

The server can carry what its busiest worker lets it: bytes a CPU second of that one. Wall-clock throughput says nothing on a
machine where the clients need the same cores. The server says beside it how links were spread, and what the supervisor took."""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "integration"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import net, procs  # noqa: E402
from measures import pull, push  # noqa: E402

GOAL = 1.8


def alone(pid):
    """CPU seconds of one process of one thread."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def measure(directory, keys, targets, workers, options):
    running = []
    directory = Path(tempfile.mkdtemp(dir=directory))  # a log is appended to: the next run must not read this one
    try:
        admin = directory / f"admin{workers}.sock"
        argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", keys.authorized, "--listen", "127.0.0.1:0"]
        argv += ["--admin-socket", admin, "--workers", workers, "--max-startups", "0:0:0"]
        server = procs.Server(argv, directory / f"serve{workers}.log")
        running.append(server)
        server.find_port()
        server.admin = admin
        known = keys.known_hosts(directory / "known", server.port)
        for n in range(options.sessions):
            argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{server.port}", "--identity", keys.path("user"), "--user", "x"]
            client = procs.Client([*argv, "--known-hosts", known, "--socks5", "127.0.0.1:0"], directory / f"connect{n}.log")
            running.append(client)
            client.find_port()
        status = server.call("status")["workers"]
        pids = [worker["pid"] for worker in status]
        before, supervisor = [alone(pid) for pid in pids], alone(server.pid)

        def move(client, n):
            total = options.bytes // options.sessions
            port, way = ((targets.source, pull), (targets.counted, push))[n % 2]
            with net.socks_connect(client.port, "127.0.0.1", port, timeout=280) as sock:
                assert way(sock, total) == total

        threads = [threading.Thread(target=move, args=(client, n)) for n, client in enumerate(running[1:])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = [alone(pid) - was for pid, was in zip(pids, before)]
        return {
            "carries": options.bytes / max(spent) / 1e6, "spent": spent, "links": [worker["links"] for worker in status],
            "supervisor": (alone(server.pid) - supervisor) / sum(spent),
        }
    finally:
        for program in reversed(running):
            program.kill()


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-s", "--sessions", type=int, default=16)
    parser.add_argument("-n", "--bytes", type=int, default=1 << 30, help="in all, of each run")
    parser.add_argument("-w", "--workers", default="auto", help="beside 1")
    options = parser.parse_args(argv)
    directory = Path(tempfile.mkdtemp(prefix="alknet-bench."))
    keys, targets = procs.Keys(directory), procs.Targets(directory)
    results = {"1": [], options.workers: []}
    try:
        for _ in range(options.rounds):
            for workers, rows in results.items():
                rows.append(measure(directory, keys, targets, workers, options))
                last = rows[-1]
                print(f"workers {workers:>4}: {last['carries']:6.0f} MB a CPU second of the busiest, links {last['links']}, "
                      f"CPU {[round(s, 2) for s in last['spent']]} s, supervisor {last['supervisor']:.2%} of it", flush=True)
    finally:
        targets.stop()
        shutil.rmtree(directory, ignore_errors=True)
    one, many = (statistics.median(row["carries"] for row in rows) for rows in results.values())
    print(f"{os.cpu_count()} cores: {options.workers} carries {many / one:.2f} times one (goal {GOAL}): "
          f"{'reached' if many / one >= GOAL else 'missed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
