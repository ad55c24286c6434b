# SPDX-License-Identifier: MIT OR Apache-2.0
"""Host keys of other types than Ed25519, and host certificates, of a stock sshd."""

import subprocess

import pytest

from harness import procs

TYPES = [("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "3072")]


def known_line(path, port, pub, marker=""):
    kind, blob = open(pub, encoding="ascii").read().split()[:2]
    path.write_text(f"{marker}[127.0.0.1]:{port} {kind} {blob}\n")
    return path


@pytest.mark.parametrize("kind,bits", TYPES)
def test_server_without_ed25519(sshd, client, tmp_path, works, kind, bits):
    """Accepted, remembered, and known the next time."""
    key = procs.make_key(tmp_path / "host", kind, "", "-b", bits)
    algorithms = "rsa-sha2-512,rsa-sha2-256" if kind == "rsa" else f"ecdsa-sha2-nistp{bits}"
    serving = sshd(f"HostKey {key}\nHostKeyAlgorithms {algorithms}")
    first = client(serving, "--accept-new-host-key", known=False, user=serving.user)
    works(first)
    name = "ssh-rsa" if kind == "rsa" else algorithms
    assert first.known_hosts.read_text().split()[1] == name
    works(client(serving, "--known-hosts", first.known_hosts, known=False, user=serving.user))


@pytest.mark.parametrize("kind,bits", TYPES)
def test_known_type_is_preferred(sshd, client, tmp_path, works, kind, bits):
    """The server has an Ed25519 key too, but the other one is what we know."""
    key = procs.make_key(tmp_path / "host", kind, "", "-b", bits)
    serving = sshd(f"HostKey {key}")
    known = known_line(tmp_path / "known", serving.port, f"{key}.pub")
    works(client(serving, "--known-hosts", known, known=False, user=serving.user))


def test_revoked_type_is_not_preferred(sshd, client, keys, tmp_path, works):
    """A revoked RSA key does not make us ask for it; shown alone it is refused."""
    key = procs.make_key(tmp_path / "host", "rsa", "", "-b", "3072")
    serving = sshd(f"HostKey {key}")
    known = keys.known_hosts(tmp_path / "known", serving.port)
    with open(known, "a", encoding="ascii") as out:
        out.write("@revoked * " + open(f"{key}.pub", encoding="ascii").read())
    works(client(serving, "--known-hosts", known, known=False, user=serving.user))
    serving = sshd(f"HostKey {key}\nHostKeyAlgorithms rsa-sha2-512")
    refused = client(serving, "--known-hosts", known, "--accept-new-host-key", known=False, user=serving.user, wait=False)
    refused.expected_status = 1
    assert refused.wait() == 1
    assert "is revoked" in refused.log() and f"{known}:2" in refused.log()


@pytest.fixture
def certified(sshd, keys, tmp_path):
    """An sshd whose host key is signed by an authority; gives it and the authority's public key."""
    authority = procs.make_key(tmp_path / "ca")
    host = procs.make_key(tmp_path / "certified")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "host", "-h", "-n", "127.0.0.1", f"{host}.pub"], check=True, capture_output=True,
    )
    serving = sshd(f"HostKey {host}\nHostCertificate {host}-cert.pub")
    return serving, host, f"{authority}.pub"


def test_certificate_authority_beside_a_plain_key(certified, client, tmp_path, works):
    """The line of the authority does not stand in the way of the key that is known, whichever it is."""
    serving, host, authority = certified
    known = known_line(tmp_path / "known", serving.port, authority, "@cert-authority ")
    # sshd has the plain key of the harness too, and shows the first of a type.
    text = known.read_text() + known_line(tmp_path / "plain", serving.port, f"{host}.pub").read_text()
    known.write_text(text)
    works(client(serving, "--known-hosts", known, known=False, user=serving.user))


def test_certificate_authority_alone(certified, client, tmp_path):
    """It cannot let a server in, and the sentence says that it is there."""
    serving, host, authority = certified
    known = known_line(tmp_path / "known", serving.port, authority, "@cert-authority ")
    refused = client(serving, "--known-hosts", known, known=False, user=serving.user, wait=False)
    refused.expected_status = 1
    assert refused.wait() == 1
    assert f"{known}:1 names a certificate authority" in refused.log()
    assert procs.fingerprint(f"{host}.pub") in refused.log()
    accepted = client(serving, "--known-hosts", known, "--accept-new-host-key", known=False, user=serving.user)
    assert accepted.port
    assert known.read_text().count("\n") == 2
