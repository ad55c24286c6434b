# SPDX-License-Identifier: MIT OR Apache-2.0
"""Certificates x authorized_keys x revoked keys: `alknet serve` and stock sshd give the same answer to the same
question (THREATS, section 2). The one difference is force-command, which alknet cannot honour and so refuses.

A *site* is what both servers know: authorized_keys, the file of authorities, revoked keys. One alknet and one sshd
serve all cases of a site. A case asks both with the same `ssh` command, or, where ssh would not offer such a
certificate, with the same hand-made packets."""

import getpass
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from cert_cases import CASES, SITES
from conftest import finish_all
from harness import procs, sshwire
from harness.certs import CERT_TYPE, Authorities, blob_of
from harness.waiting import scaled

USER = getpass.getuser()  # sshd lets in whom the system knows
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")


class Site:
    def __init__(self, name, keys, authorities, directory, started):
        self.name, self.keys, self.made, self.dir, self.started = name, keys, authorities, directory, started
        self.dir.mkdir(exist_ok=True)
        self.user = USER
        SITES[name](self)
        self.start_alknet()
        self.start_sshd()

    def write(self, name, lines):
        path = self.dir / name
        path.write_text("".join(line + "\n" for line in lines))
        path.chmod(0o644)
        return path

    authorized = authorities = revoked = None

    def start_alknet(self):
        argv = [procs.alknet(), "serve", "--key", self.keys.path("host"), "--listen", "127.0.0.1:0", "--workers", "0",
                "--admin-socket", self.dir / "admin.sock"]
        for kind in KEY_TYPES:
            argv += ["--key-types", kind]
        for flag, path in (("authorized-keys", self.authorized), ("cert-authority", self.authorities),
                           ("revoked-keys", self.revoked)):
            argv += [f"--{flag}", path] if path else []
        self.alknet = procs.Server(argv, self.dir / "alknet.log")
        self.alknet.admin = self.dir / "admin.sock"
        self.started.append(self.alknet)
        self.alknet.find_port()

    def start_sshd(self):
        extra = f"AuthorizedKeysFile {self.authorized or 'none'}\n"
        if self.authorities:
            extra += f"TrustedUserCAKeys {self.authorities}\n"
        if self.revoked:
            extra += f"RevokedKeys {self.revoked}\n"
        self.sshd = procs.start_sshd(self.keys, self.dir, extra)
        self.started.append(self.sshd)

    # One question to one server: (may come in, may forward).

    def ssh(self, port, case, target):
        known = self.keys.known_hosts(self.dir / f"known{port}", port)
        argv = ["ssh", *procs.SSH_OPTIONS, "-o", f"UserKnownHostsFile={known}", "-i", self.made.path(case.key),
                *(["-o", f"CertificateFile={case.file}"] if case.file else []), "-p", str(port), "-l", case.user or USER,
                "-W", f"127.0.0.1:{target}", "127.0.0.1"]
        out = subprocess.run(argv, input=b"in", capture_output=True, timeout=scaled(30), env=procs.environment(), check=False)
        if b"Permission denied (publickey" in out.stderr:
            return False, False
        if out.returncode == 0:
            assert out.stdout.startswith(b"2 "), out
            return True, True
        assert b"stdio forwarding failed" in out.stderr, out.stderr.decode()
        return True, False

    def wire(self, port, case, target):
        with sshwire.Wire(port) as wire:
            wire.service()
            wire.auth_request(case.user or USER, self.made.key(case.key), algorithm=case.algorithm, blob=case.blob)
            if case.silent:  # what cannot be read at all gets no answer: ask for something that must have one
                wire.send(bytes([sshwire.AUTH_REQUEST]) + b"".join(map(sshwire.string, (case.user or USER, "ssh-connection", "none"))))
            if wire.expect(sshwire.AUTH_SUCCESS, sshwire.AUTH_FAILURE)[0] == sshwire.AUTH_FAILURE:
                return False, False
            return True, wire.open_channel(0, "127.0.0.1", target) is not None


@pytest.fixture(scope="module")
def sites(keys, tmp_path_factory):
    if not procs.find_sshd():
        pytest.skip("sshd is not installed")
    directory, started, known = tmp_path_factory.mktemp("matrix"), [], {}
    (directory / "keys").mkdir()
    authorities = Authorities(directory / "keys")

    def site(name):
        if name not in known:
            known[name] = Site(name, keys, authorities, directory / name, started)
        return known[name]

    yield site
    finish_all(started)


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(2) as running:
        yield running


class Question:
    """A case, with its certificate made."""

    def __init__(self, case, site):
        self.key, self.user, self.silent = case.key, case.user, case.silent
        self.algorithm = case.algorithm or CERT_TYPE
        self.blob = self.file = None
        made = case.make(site) if case.make else None
        if isinstance(made, bytes):
            self.blob = made
        elif made:
            self.file = made
        if case.wire and made and self.blob is None:
            self.blob = blob_of(made)
        self.by_wire = case.wire or self.blob is not None


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.site}-{case.name}")
def test_same_answer_as_sshd(sites, pool, targets, case):
    site = sites(case.site)
    question = Question(case, site)
    ask = site.wire if question.by_wire else site.ssh
    before = len(site.alknet.log())
    ours = pool.submit(ask, site.alknet.port, question, targets.sink)
    theirs = pool.submit(ask, site.sshd.port, question, targets.sink)
    assert theirs.result() == case.sshd, "sshd has another opinion than this table"
    assert ours.result() == (case.alknet if case.alknet is not None else case.sshd), site.alknet.log()[before:]
    if case.why:
        assert case.why in site.alknet.log()[before:]


def test_enough_cases():
    """What the section on certificates lists is all in here, and no case is there twice."""
    names = [(case.site, case.name) for case in CASES]
    assert len(set(names)) == len(names) >= 60
    assert [case.name for case in CASES if case.alknet is not None] == [
        "force-command", "plain-algorithm", "other-algorithm", "line-force-command",
    ]
