# SPDX-License-Identifier: MIT OR Apache-2.0
"""Revocation while the server runs, and lists that cannot be read (THREATS, section 2)."""

import getpass
import os
import subprocess

import pytest

from harness import procs, sshwire
from harness.certs import CERT_TYPE, Authorities, blob_of
from harness.waiting import scaled

USER = getpass.getuser()


@pytest.fixture
def made(tmp_path):
    (tmp_path / "keys").mkdir()
    return Authorities(tmp_path / "keys")


@pytest.fixture
def both(server, sshd, made, tmp_path):
    """alknet and sshd with an authority `ca` and the same file of revoked keys."""

    class Both:
        authorities = tmp_path / "authorities"
        revoked = tmp_path / "revoked"

        def start(self):
            self.authorities.write_text(made.public("ca") + "\n")
            self.authorities.chmod(0o644)
            flags = ("--cert-authority", self.authorities, "--revoked-keys", self.revoked)
            self.alknet = server(*flags, authorized=False)
            self.sshd = sshd(f"AuthorizedKeysFile none\nTrustedUserCAKeys {self.authorities}\nRevokedKeys {self.revoked}\n")
            return self.alknet, self.sshd

        def revoke(self, content):
            """As a careful administrator does: the old file or the new one, never a half."""
            new = tmp_path / "revoked.new"
            new.write_bytes(content)
            os.replace(new, self.revoked)

    return Both()


def login(port, made, blob):
    """A session, or None when it was refused."""
    wire = sshwire.Wire(port)
    wire.service()
    wire.auth_request(USER, made.key("user"), algorithm=CERT_TYPE, blob=blob)
    if wire.expect(sshwire.AUTH_SUCCESS, sshwire.AUTH_FAILURE)[0] == sshwire.AUTH_SUCCESS:
        return wire
    wire.close()
    return None


def works(wire, number, targets):
    channel = wire.open_channel(number, "127.0.0.1", targets.echo)
    wire.data(channel[0], b"still here")
    return wire.read(10) == b"still here"


def empty_krl(made):
    return made.krl("empty", "").read_bytes()


def test_revoked_while_sessions_run(both, made, targets):
    """A session lives on when its certificate is revoked, as with sshd; nobody comes in with it any more."""
    blob = blob_of(made.sign("ca", "user", "-n", USER, "-z", "5"))
    both.revoke(empty_krl(made))
    servers = both.start()
    sessions = [login(running.port, made, blob) for running in servers]
    assert all(works(wire, 0, targets) for wire in sessions)
    both.revoke(made.krl("krl", "serial: 5\n", "-s", f"{made.path('ca')}.pub").read_bytes())
    both.alknet.call("keys.reload")
    assert [login(running.port, made, blob) for running in servers] == [None, None]
    both.alknet.wait_log(r'msg="auth refused".* reason=revoked')
    assert all(works(wire, 1, targets) for wire in sessions)
    for wire in sessions:
        wire.close()


def cut_short(made):
    return made.krl("long", "serial: 1-9\nid: gone\n", "-s", f"{made.path('ca')}.pub").read_bytes()[:-3]


def unknown_section(made):
    return empty_krl(made) + b"\x2a" + sshwire.string(b"")


def critical_extension(made):
    return empty_krl(made) + b"\xff" + sshwire.string(sshwire.string(b"x@example.com") + b"\1" + sshwire.string(b""))


def bad_line(made):
    return made.public("stranger").encode() + b"\nrubbish\n"


BAD = [
    (cut_short, r"offset \d+: a certificate section is cut short|offset \d+: a section is cut short"),
    (unknown_section, r"offset \d+: a section of an unknown type"),
    (critical_extension, r"offset \d+: unknown critical extension `x@example.com`"),
    (bad_line, r":2: not a public key"),
]


@pytest.mark.parametrize("content,why", BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_a_list_that_cannot_be_read_lets_nobody_in(both, made, tmp_path, keys, content, why):
    """sshd refuses everybody; alknet does not start, or goes on with the list that it has."""
    blob = blob_of(made.sign("ca", "user", "-n", USER))
    both.revoke(empty_krl(made))
    alknet, sshd = both.start()
    both.revoke(content(made))
    assert login(sshd.port, made, blob) is None
    with pytest.raises(procs.AdminError, match=why):
        alknet.call("keys.reload")
    wire = login(alknet.port, made, blob)
    assert wire is not None
    wire.close()
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--listen", "127.0.0.1:0", "--admin-socket", "none",
            "--cert-authority", both.authorities, "--revoked-keys", both.revoked]
    out = subprocess.run(argv, capture_output=True, text=True, timeout=scaled(30), env=procs.environment(), check=False)
    assert out.returncode in (1, 2)
    assert str(both.revoked) in out.stderr
    assert len(out.stderr.splitlines()) == 1, out.stderr
