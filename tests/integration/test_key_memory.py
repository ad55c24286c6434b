# SPDX-License-Identifier: MIT OR Apache-2.0
"""Private keys and passphrases do not stay in memory longer than they are needed (THREATS 47)."""

import base64
import os
import subprocess
from pathlib import Path

import pytest

from harness import net, procs
from harness.configured import Configured, echoes, lives
from harness.peek import found_in
from harness.terminal import Terminal
from harness.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")


@pytest.fixture(autouse=True)
def plain(sanitized):
    if sanitized:
        pytest.skip("AddressSanitizer keeps what was freed")


def secrets_of(path):
    """What gives an Ed25519 key away: its 32 bytes, and where they stand in its file."""
    lines = path.read_text().splitlines()[1:-1]
    blob = base64.b64decode("".join(lines))
    at = blob.rindex(b"\0\0\0\x40") + 4  # the private half: seed, public key
    inside = at * 4 // 3 // len(lines[0])
    return {"seed": blob[at : at + 32], "file": "\n".join(lines[inside : inside + 2]).encode()}


@pytest.mark.parametrize("workers", [0, 2])
def test_t47_host_key_that_was_replaced(keys, tmp_path, running_programs, targets, workers):
    """Once the last session of the old key has ended no process has it any more: a worker takes along what libssh does not
    wipe. Without workers that stays (docs/THREAT_MODEL.md), what is ours does not."""
    serving = Configured(keys, tmp_path, running_programs, workers=workers)
    old = secrets_of(serving.host)
    server = serving.server
    sessions = [serving.login() for _ in range(3)]
    echoes(sessions[0], targets)

    def left():
        return set().union(*(found_in(pid, old) for pid in procs.tree(server.pid)))

    assert left() == {"seed", "file"}, "the test sees what is there"
    serving.host.unlink()
    procs.make_key(serving.host)
    serving.call("keys.reload")
    new = serving.login()
    assert new.host_key != sessions[0].host_key and all(map(lives, sessions))
    for wire in sessions:
        wire.close()
    serving.alone()
    wait_until(lambda: not left() - (set() if workers else {"seed"}), 10, "the old key to be gone")
    echoes(new, targets)
    serving.close()


def test_t47_passphrase_of_an_identity(server, keys, tmp_path, targets):
    """The client needs the key again and again, the passphrase once."""
    identity = tmp_path / "locked"
    subprocess.run(["cp", keys.path("user"), identity], check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "a long open sesame", "-f", identity], check=True, capture_output=True)
    serving = server()
    known = keys.known_hosts(tmp_path / "known", serving.port)
    terminal = Terminal([
        procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", str(identity), "--user", "tester",
        "--known-hosts", known, "--socks5", "127.0.0.1:0",
    ])
    terminal.expect(str(identity))
    terminal.type("a long open sesame\n")
    terminal.expect("SOCKS5 and HTTP proxy on")
    port = int(terminal.seen.split("proxy on 127.0.0.1:")[1].split()[0])
    with net.socks_connect(port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    assert "seed" in found_in(terminal.pid, secrets_of(Path(keys.path("user")))), "the test sees what is there"
    assert found_in(terminal.pid, {"passphrase": b"long open sesame"}) == set()
    assert terminal.terminate() == 0
