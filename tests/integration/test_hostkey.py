# SPDX-License-Identifier: MIT OR Apache-2.0
"""The client's judgement of the host key, and what it asks on a terminal."""

import os
import signal
import subprocess
import termios
import time

import pytest

from harness import net, procs
from harness.terminal import Terminal
from harness.waiting import scaled, wait_until


@pytest.fixture
def words(keys):
    def make(port, known, *more, identity=None):
        return [
            procs.alknet(), "connect", "--server", f"127.0.0.1:{port}", "--identity", str(identity or keys.path("user")),
            "--user", "tester", "--known-hosts", str(known), "--socks5", "127.0.0.1:0", *map(str, more),
        ]

    return make


def refuse(argv):
    out = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=scaled(20), env=procs.environment(),
        check=False, start_new_session=True,
    )
    assert out.returncode == 1, out
    assert not procs.SANITIZER.search(out.stderr)
    return out.stderr


def test_unknown_key_without_a_terminal(server, keys, words, tmp_path):
    """Refused, with its fingerprint and the two ways to accept it; nothing is written."""
    known = tmp_path / "none"
    text = refuse(words(server().port, known))
    assert keys.fingerprint("host") in text
    assert "--accept-new-host-key" in text and "--host-key-fingerprint" in text
    assert not known.exists()


def test_accept_new(server, client, keys, tmp_path, targets):
    serving = server()
    first = client(serving, "--accept-new-host-key", known=False)
    with net.socks_connect(first.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    assert oct(first.known_hosts.stat().st_mode & 0o777) == "0o600"
    found = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{serving.port}", "-f", str(first.known_hosts)], capture_output=True, text=True, check=True,
    )
    assert keys.public("host").split()[1] in found.stdout
    again = client(serving, "--known-hosts", first.known_hosts, known=False)
    assert again.port


def test_accept_new_hashed(server, client, keys):
    serving = server()
    first = client(serving, "--accept-new-host-key", "--hash-known-hosts", known=False)
    text = first.known_hosts.read_text()
    assert text.startswith("|1|") and "127.0.0.1" not in text
    client(serving, "--known-hosts", first.known_hosts, known=False)


@pytest.mark.parametrize("flags", [(), ("--accept-new-host-key",)])
def test_changed_key(server, keys, words, tmp_path, flags):
    """Refused with both fingerprints, also where new keys are accepted; the file stays as it is."""
    serving = server()
    known = keys.known_hosts(tmp_path / "changed", serving.port, key="stranger")
    before = open(known, encoding="ascii").read()
    text = refuse(words(serving.port, known, *flags))
    assert keys.fingerprint("host") in text and keys.fingerprint("stranger") in text
    assert str(known) in text
    assert open(known, encoding="ascii").read() == before


def test_other_type_only(server, keys, words, tmp_path):
    """A known key of another type counts as changed."""
    serving = server()
    other = procs.make_key(tmp_path / "rsa", "rsa")
    kind, blob = (tmp_path / "rsa.pub").read_text().split()[:2]
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{serving.port} {kind} {blob}\n")
    text = refuse(words(serving.port, known, "--accept-new-host-key"))
    assert keys.fingerprint("host") in text and procs.fingerprint(f"{other}.pub") in text


def test_revoked_key(server, keys, words, tmp_path):
    serving = server()
    known = keys.known_hosts(tmp_path / "known", serving.port)
    with open(known, "a", encoding="ascii") as out:
        out.write("@revoked * " + keys.public("host") + "\n")
    assert "revoked" in refuse(words(serving.port, known))


def test_hashed_by_ssh_keygen(server, client, keys, tmp_path):
    serving = server()
    known = keys.known_hosts(tmp_path / "hashed", serving.port)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert open(known, encoding="ascii").read().startswith("|1|")
    client(serving, "--known-hosts", known, known=False)


def test_port_and_name_count(server, keys, words, tmp_path):
    """An entry for another port or another name is no entry."""
    serving = server()
    known = keys.known_hosts(tmp_path / "known", 22)
    assert keys.fingerprint("host") in refuse(words(serving.port, known))
    known = keys.known_hosts(tmp_path / "known", serving.port, host="127.0.0.2")
    assert keys.fingerprint("host") in refuse(words(serving.port, known))


def test_garbage_in_known_hosts(server, client, keys, tmp_path):
    serving = server()
    good = open(keys.known_hosts(tmp_path / "good", serving.port), encoding="ascii").read()
    known = tmp_path / "known"
    known.write_text("garbage\n\n# comment\n|1|x|y ssh-ed25519 AAAA\n@cert-authority * ssh-ed25519 AAAA\n" + "x" * 9000 + "\n" + good)
    client(serving, "--known-hosts", known, known=False)


def test_fingerprint(server, client, keys, words, tmp_path):
    serving = server()
    client(serving, "--host-key-fingerprint", keys.fingerprint("host"), known=False)
    text = refuse(words(serving.port, tmp_path / "none", "--host-key-fingerprint", keys.fingerprint("stranger")))
    assert keys.fingerprint("host") in text and keys.fingerprint("stranger") in text


def test_fingerprint_of_another_key(server, keys, words, tmp_path):
    """A server shows one of its keys: the pin of another is no attack, and which one to pin is said."""
    other = procs.make_key(tmp_path / "rsa", "rsa")
    serving = server("--key", other)
    text = refuse(words(serving.port, tmp_path / "none", "--host-key-fingerprint", procs.fingerprint(f"{other}.pub")))
    assert f"ssh-ed25519 {keys.fingerprint('host')}" in text and "another of the server's keys" in text and "pin the one of its ssh-ed25519 key" in text


def test_default_known_hosts(server, keys, tmp_path):
    """alknet keeps a file of its own under XDG_STATE_HOME."""
    serving = server()
    argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", keys.path("user"), "--user", "tester"]
    argv += ["--socks5", "127.0.0.1:0", "--accept-new-host-key"]
    program = procs.Client(argv, tmp_path / "log", env=procs.environment(XDG_STATE_HOME=str(tmp_path / "state"), HOME=str(tmp_path)))
    try:
        program.find_port()
        assert (tmp_path / "state" / "alknet" / "known_hosts").exists()
    finally:
        program.finish()


@pytest.mark.parametrize("answer", ["yes", "no", "nonsense"])
def test_trust_on_first_use_on_a_terminal(server, keys, words, tmp_path, answer):
    known = tmp_path / "tofu"
    terminal = Terminal(words(server().port, known))
    terminal.expect(keys.fingerprint("host"))
    terminal.expect("yes")
    if answer == "nonsense":
        terminal.type("perhaps\n")
        terminal.expect("perhaps")
        answer = "no"
    terminal.type(answer + "\n")
    if answer == "no":
        assert terminal.end() == 1
        assert not known.exists()
    else:
        terminal.expect("SOCKS5 and HTTP proxy on")
        assert terminal.terminate() == 0
        assert known.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, "^C"])
def test_question_that_is_interrupted(server, words, tmp_path, number):
    """The program ends; that is no answer, and the terminal is as it was."""
    known = tmp_path / "tofu"
    terminal = Terminal(words(server().port, known))
    before = termios.tcgetattr(terminal.fd)
    terminal.expect("(yes/no)?")
    if number == "^C":
        terminal.type("\x03")
    else:
        os.kill(terminal.pid, number)
    terminal.expect("interrupted")
    assert termios.tcgetattr(terminal.fd) == before
    assert terminal.end() == 1
    assert "not accepted" not in terminal.seen and not known.exists()


def test_end_of_file_is_no_yes(server, words, tmp_path):
    terminal = Terminal(words(server().port, tmp_path / "tofu"))
    terminal.expect("(yes/no)?")
    terminal.type("\x04")
    assert terminal.end() == 1
    assert "not accepted" in terminal.seen


def test_answer_after_the_handshake_timeout(server, words, tmp_path):
    """Who thinks for longer than the server may take is connected all the same."""
    terminal = Terminal(words(server().port, tmp_path / "tofu", "--handshake-timeout", "10s"))
    terminal.expect("(yes/no)?")
    start = time.monotonic()
    wait_until(lambda: time.monotonic() - start > 11, 20, "somebody to think")
    terminal.type("yes\n")
    terminal.expect("SOCKS5 and HTTP proxy on")
    assert terminal.terminate() == 0


def test_passphrase_on_a_terminal(server, keys, words, tmp_path):
    """Asked without echo; three tries."""
    identity = tmp_path / "locked"
    subprocess.run(["cp", keys.path("user"), identity], check=True)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", identity], check=True, capture_output=True)
    serving = server()
    known = keys.known_hosts(tmp_path / "known", serving.port)
    terminal = Terminal(words(serving.port, known, identity=identity))
    terminal.expect(str(identity))
    terminal.type("wrong\n")
    wait_until(lambda: terminal.read().count(str(identity)) >= 2, 15, "the second question")
    terminal.type("open sesame\n")
    terminal.expect("SOCKS5 and HTTP proxy on")
    assert "sesame" not in terminal.seen and "wrong\r\n" not in terminal.seen
    assert terminal.terminate() == 0
    terminal = Terminal(words(serving.port, known, identity=identity))
    for n in range(3):
        wait_until(lambda n=n: terminal.read().count(str(identity)) > n, 15, f"question {n + 1}")
        terminal.type("wrong\n")
    assert terminal.end() in (1, 2)


def test_passphrase_without_a_terminal(server, keys, words, tmp_path):
    identity = procs.make_key(tmp_path / "locked", "ed25519", "secret")
    out = subprocess.run(
        words(9, tmp_path / "none", identity=identity), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=scaled(20), env=procs.environment(), check=False, start_new_session=True,
    )
    assert out.returncode == 2
    assert str(identity) in out.stderr and "passphrase" in out.stderr
