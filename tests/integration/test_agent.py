# SPDX-License-Identifier: MIT OR Apache-2.0
"""What `alknet connect` logs in with: ssh-agent, certificates, other key types. Against a stock sshd."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from harness import procs
from harness.waiting import wait_until

pytestmark = pytest.mark.skipif(not shutil.which("ssh-agent"), reason="ssh-agent is not installed")


def agent_environment(sock):
    """libssh 0.10 never frees the list of keys that an agent gave it (ssh_login.h)."""
    known = Path(__file__).with_name("libssh_agent.supp")
    return procs.environment(SSH_AUTH_SOCK=str(sock), LSAN_OPTIONS=f"suppressions={known}:print_suppressions=0")


class Agent(procs.Program):
    def __init__(self, directory, **env):
        self.sock = str(directory / "agent.sock")
        super().__init__(["ssh-agent", "-D", "-a", self.sock], directory / "agent.log", env=procs.environment(**env))
        wait_until(self.listens, 20, "ssh-agent")
        self.env = agent_environment(self.sock)

    def listens(self):
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(self.sock) == 0

    def add(self, *words, **more):
        subprocess.run(["ssh-add", "-q", *map(str, words)], env={**self.env, **more}, check=True, capture_output=True, input=b"")


@pytest.fixture
def agent(tmp_path, running_programs):
    made = Agent(tmp_path)
    running_programs.append(made)
    return made


@pytest.fixture
def connect(client, works, tmp_path):
    """Connect and use it, or give the sentence of a refusal."""

    def start(serving, *flags, env=None, identity=None, refused=False):
        argv = ["--user", getattr(serving, "user", "tester")]
        running = client(serving, *argv, *flags, identity=identity, env=env, wait=False)
        if refused:
            running.expected_status = 1
            assert running.wait() == 1
            return running.log()
        running.find_port()
        works(running)
        running.stop()
        return running.log()

    return start


@pytest.fixture
def no_identity(tmp_path, keys, running_programs, works):
    """`alknet connect` without --identity."""

    def start(serving, *flags, env, user=None, refused=False):
        known = keys.known_hosts(tmp_path / "known_no_identity", serving.port)
        argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--user", user or getattr(serving, "user", "tester")]
        argv += ["--known-hosts", known, "--socks5", "127.0.0.1:0", *flags]
        running = procs.Client(argv, tmp_path / f"no_identity{len(running_programs)}.log", env=env)
        running_programs.append(running)
        if refused:
            running.expected_status = 1
            assert running.wait() == 1
            return running.log()
        running.find_port()
        works(running)
        return running

    return start


def authorize(tmp_path, *pubs):
    path = tmp_path / "authorized"
    path.write_text("".join(open(p, encoding="ascii").read() for p in pubs))
    return f"AuthorizedKeysFile {path}"


def sign(ca, pub, *flags):
    subprocess.run(["ssh-keygen", "-q", "-s", ca, "-I", "test", *flags, pub], check=True, capture_output=True)


# ---- the agent


@pytest.mark.parametrize("kind,bits", [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "3072")])
def test_agent_key(sshd, agent, no_identity, tmp_path, kind, bits):
    key = procs.make_key(tmp_path / "id", kind, "", "-b", bits)
    agent.add(key)
    no_identity(sshd(authorize(tmp_path, f"{key}.pub")), env=agent.env)


def test_agent_key_of_our_own_server(server, agent, no_identity, keys):
    """Two keys are offered; the offers count as attempts and no more."""
    agent.add(keys.path("stranger"))
    agent.add(keys.path("user"))
    no_identity(server(), env=agent.env)


def test_agent_keys_in_order(sshd, agent, no_identity, tmp_path):
    """All of the agent's keys are tried until the server takes one; those that cannot be used are passed over."""
    for n, (kind, bits) in enumerate([("rsa", "2048"), ("ed25519", "256"), ("ecdsa", "384"), ("ed25519", "256")]):
        agent.add(procs.make_key(tmp_path / f"id{n}", kind, "", "-b", bits))
    serving = sshd(authorize(tmp_path, tmp_path / "id3.pub"))
    no_identity(serving, env=agent.env)
    text = no_identity(sshd(authorize(tmp_path)), env=agent.env, refused=True)
    assert "the server refused all 3 keys of the agent for user" in text


def test_agent_with_more_keys_than_the_server_lets_one_try(sshd, agent, no_identity, connect, tmp_path):
    for n in range(8):
        agent.add(procs.make_key(tmp_path / f"id{n}"))
    serving = sshd(authorize(tmp_path, tmp_path / "id7.pub"))
    text = no_identity(serving, env=agent.env, refused=True)
    assert "--identity KEY.pub" in text
    connect(serving, identity=tmp_path / "id7.pub", env=agent.env)
    text = connect(serving, identity=tmp_path / "id6.pub", env=agent.env, refused=True)
    assert f"refused the key {tmp_path}/id6.pub (from the agent)" in text


def test_public_file_of_a_key_that_the_agent_has_not(sshd, agent, connect, keys):
    agent.add(keys.path("stranger"))
    text = connect(sshd(), identity=keys.path("user") + ".pub", env=agent.env, refused=True)
    assert "does not have the key" in text and agent.sock in text


def test_encrypted_identity_that_the_agent_has(sshd, agent, connect, tmp_path):
    """Nobody is asked for the passphrase."""
    key = procs.make_key(tmp_path / "id")
    agent.add(key)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key], check=True, capture_output=True)
    connect(sshd(authorize(tmp_path, f"{key}.pub")), identity=key, env=agent.env)


def test_locked_agent(sshd, agent, no_identity, keys, tmp_path):
    agent.add(keys.path("user"))
    askpass = tmp_path / "askpass"
    askpass.write_text("#!/bin/sh\necho secret\n")
    askpass.chmod(0o700)
    agent.add("-x", SSH_ASKPASS=str(askpass), SSH_ASKPASS_REQUIRE="force")
    text = no_identity(sshd(), env=agent.env, refused=True)
    assert "has no keys, or is locked" in text and "ssh-add" in text


def test_agent_that_asks_a_person(sshd, tmp_path, no_identity, keys, running_programs):
    """`ssh-add -c`: confirmed, it signs; refused, the next key is tried."""
    answer = tmp_path / "answer"
    askpass = tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\n[ -e {answer} ]\n")
    askpass.chmod(0o700)
    program = Agent(tmp_path, SSH_ASKPASS=str(askpass), SSH_ASKPASS_REQUIRE="force", DISPLAY=":9")
    running_programs.append(program)
    program.add("-c", keys.path("user"))
    serving = sshd()
    text = no_identity(serving, env=program.env, refused=True)
    assert "did not sign" in text and (tmp_path / "asked").exists()
    answer.touch()
    no_identity(serving, env=program.env)


def test_no_agent(sshd, no_identity, connect, keys, tmp_path):
    serving = sshd()
    text = no_identity(serving, env=procs.environment(SSH_AUTH_SOCK=str(tmp_path / "nowhere")), refused=True)
    assert f"cannot reach the agent at {tmp_path}/nowhere" in text
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    text = no_identity(serving, env=procs.environment(SSH_AUTH_SOCK=str(tmp_path / "dead")), refused=True)
    assert f"cannot reach the agent at {tmp_path}/dead" in text
    # A key file that needs no agent does not ask it.
    connect(serving, env=procs.environment(SSH_AUTH_SOCK=str(tmp_path / "dead")))


def string(data):
    return struct.pack(">I", len(data)) + data


@contextlib.contextmanager
def false_agent(path, replies):
    """An agent that says to the n-th question what `replies` has; None is silence, b"" is to close."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    held = []

    def serve():
        for reply in replies:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.recv(65536)
            held.append(sock)
            with contextlib.suppress(OSError):
                if reply:
                    sock.sendall(reply)
                if reply is not None:
                    sock.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield agent_environment(path)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for sock in held:
            sock.close()
        thread.join(20)


def blob(pub):
    import base64

    return base64.b64decode(open(pub, encoding="ascii").read().split()[1])


HOSTILE = {
    "closes": (b"", "closed the connection"),
    "half a length": (b"\0\0", "closed the connection"),
    "length 0": (b"\0\0\0\0", "wrong length"),
    "oversize": (struct.pack(">I", 1 << 20) + b"x" * 4096, "wrong length"),
    "4 GiB": (b"\xff\xff\xff\xff", "wrong length"),
    "half an answer": (string(b"\x0c\0\0\0\1")[:-2], "closed the connection"),
    "garbage": (string(os.urandom(1000)), "no list of keys"),
    "failure": (string(b"\x05"), "no list of keys"),
    "other message": (string(b"\x0e" + string(b"x")), "no list of keys"),
    "wrong count": (string(b"\x0c\xff\xff\xff\xff"), "no list of keys"),
    "more behind": (string(b"\x0c\0\0\0\0tail"), "no list of keys"),
    "empty list": (string(b"\x0c\0\0\0\0"), "has no keys, or is locked"),
    "empty key": (string(b"\x0c\0\0\0\1" + string(b"") + string(b"c")), "has no keys, or is locked"),
    "garbage key": (string(b"\x0c\0\0\0\1" + string(b"x" * 99) + string(b"c")), "no key that can be used"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_agent(sshd, no_identity, tmp_path, what):
    reply, sentence = HOSTILE[what]
    with false_agent(tmp_path / "false", [reply]) as env:
        assert sentence in no_identity(sshd(), env=env, refused=True)


def test_silent_agent(sshd, no_identity, tmp_path):
    with false_agent(tmp_path / "false", [None]) as env:
        assert "does not answer" in no_identity(sshd(), env=env, refused=True)


SIGNATURES = {
    "closes": (b"", "closed the connection"),
    "garbage": (string(b"\x0e" + os.urandom(64)), "sent no signature"),
    "list": (string(b"\x0c\0\0\0\0"), "sent no signature"),
    "half": (string(b"\x0e" + string(string(b"ssh-ed25519"))), "sent no signature"),
    "refused": (string(b"\x05"), "did not sign"),
    "wrong": (string(b"\x0e" + string(string(b"ssh-ed25519") + string(b"x" * 64))), "the server refused all 1 keys"),
    "wrong type": (string(b"\x0e" + string(string(b"ssh-rsa") + string(b"x" * 64))), "alknet: "),
}


@pytest.mark.parametrize("what", SIGNATURES)
def test_hostile_signature(sshd, no_identity, keys, tmp_path, what):
    reply, sentence = SIGNATURES[what]
    listing = string(b"\x0c\0\0\0\1" + string(blob(keys.path("user") + ".pub")) + string(b"comment"))
    with false_agent(tmp_path / "false", [listing, reply]) as env:
        assert sentence in no_identity(sshd(), env=env, refused=True)


def test_agent_that_never_signs(sshd, no_identity, keys, tmp_path):
    """The handshake's deadline ends it."""
    listing = string(b"\x0c\0\0\0\1" + string(blob(keys.path("user") + ".pub")) + string(b"comment"))
    with false_agent(tmp_path / "false", [listing, None]) as env:
        text = no_identity(sshd(), "--handshake-timeout", "15s", env=env, refused=True)
        assert "handshake timeout (authentication)" in text


# ---- certificates


@pytest.fixture
def authority(tmp_path):
    ca = procs.make_key(tmp_path / "ca")
    return ca, f"TrustedUserCAKeys {ca}.pub\nAuthorizedKeysFile none"


@pytest.mark.parametrize("kind,bits", [("ed25519", "256"), ("ecdsa", "256"), ("rsa", "3072")])
def test_certificate_beside_the_identity(sshd, connect, authority, tmp_path, kind, bits):
    ca, config = authority
    key = procs.make_key(tmp_path / "id", kind, "", "-b", bits)
    serving = sshd(config)
    sign(ca, f"{key}.pub", "-n", serving.user)
    connect(serving, identity=key)
    os.rename(f"{key}-cert.pub", tmp_path / "elsewhere.pub")
    assert "refused the key" in connect(serving, identity=key, refused=True)
    connect(serving, "--certificate", tmp_path / "elsewhere.pub", identity=key)


def test_plain_key_after_its_certificate(sshd, connect, authority, tmp_path):
    """A certificate that the server does not take does not stand in the way of the key."""
    ca, _ = authority
    key = procs.make_key(tmp_path / "id")
    sign(ca, f"{key}.pub", "-n", "nobody")
    connect(sshd(authorize(tmp_path, f"{key}.pub")), identity=key)


@pytest.mark.parametrize("kind,bits", [("ed25519", "256"), ("ecdsa", "384"), ("rsa", "3072")])
def test_certificate_in_the_agent(sshd, agent, no_identity, authority, tmp_path, kind, bits):
    ca, config = authority
    key = procs.make_key(tmp_path / "id", kind, "", "-b", bits)
    serving = sshd(config)
    sign(ca, f"{key}.pub", "-n", serving.user)
    agent.add(key)
    no_identity(serving, env=agent.env)


def test_certificate_file_of_an_agent_key(sshd, agent, connect, no_identity, authority, tmp_path):
    """The agent has the plain key alone; the certificate is a file."""
    ca, config = authority
    key = procs.make_key(tmp_path / "id")
    agent.add(key)
    serving = sshd(config)
    sign(ca, f"{key}.pub", "-n", serving.user)
    os.remove(key)
    connect(serving, identity=f"{key}.pub", env=agent.env)
    connect(serving, identity=f"{key}-cert.pub", env=agent.env)
    no_identity(serving, "--certificate", f"{key}-cert.pub", env=agent.env)


def test_certificate_of_another_key(sshd, client, authority, keys, tmp_path):
    ca, _ = authority
    key = procs.make_key(tmp_path / "id")
    sign(ca, f"{key}.pub")
    for cert, sentence in [(f"{key}-cert.pub", "the certificate of another key"), (f"{key}.pub", "not a certificate"), (key, "not a public key")]:
        running = client(9, "--certificate", cert, wait=False)
        running.expected_status = 2
        assert running.wait() == 2
        assert sentence in running.log() and str(cert) in running.log()


# ---- key files of other types


@pytest.mark.parametrize("kind,bits", [("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "3072"), ("rsa", "4096")])
def test_key_file(sshd, connect, tmp_path, kind, bits):
    key = procs.make_key(tmp_path / "id", kind, "", "-b", bits)
    connect(sshd(authorize(tmp_path, f"{key}.pub")), identity=key)


def test_small_rsa(client, tmp_path):
    running = client(9, identity=procs.make_key(tmp_path / "id", "rsa", "", "-b", "2048"), wait=False)
    running.expected_status = 2
    assert running.wait() == 2
    assert "an RSA key of 2048 bits, and 3072 are the least" in running.log()


def test_server_that_takes_sha1_only(sshd, connect, tmp_path):
    """No signature with SHA-1 is made."""
    key = procs.make_key(tmp_path / "id", "rsa", "", "-b", "3072")
    serving = sshd(authorize(tmp_path, f"{key}.pub") + "\nPubkeyAcceptedAlgorithms ssh-rsa")
    assert f"refused the key {key}" in connect(serving, identity=key, refused=True)


def test_neither_identity_nor_agent():
    out = subprocess.run(
        [procs.alknet(), "connect", "--server", "127.0.0.1:9"], capture_output=True, text=True, check=False, env=procs.environment(),
    )
    assert out.returncode == 2
    assert "--identity" in out.stderr and "SSH_AUTH_SOCK" in out.stderr
