# SPDX-License-Identifier: MIT OR Apache-2.0
"""The options of authorized_keys, certificates' lines in it and key types, with the real ssh."""

import datetime
import re
import shutil
import socket
import subprocess

import pytest

from conftest import USER
from harness import net, procs, sshwire
from harness.waiting import scaled, wait_until


class Lines:
    """An authorized_keys file of a test's own, and what ssh makes of it."""

    def __init__(self, server, ssh, keys, directory, targets):
        self.server, self.ssh, self.keys, self.targets = server, ssh, keys, targets
        self.path = directory / "authorized_lines"

    def serve(self, *lines, flags=(), **options):
        self.path.write_text("\n".join(line.format(key=self.keys.public("user")) for line in lines) + "\n")
        self.path.chmod(0o600)
        return self.server(*flags, authorized=self.path, **options)

    def logs_in(self, serving, *flags, **options):
        """Can ssh authenticate? A second word from the log makes sure that it is not another failure."""
        out = self.ssh.run(serving, "-v", *flags, "-W", "127.0.0.1:1", **options)
        if b"Authenticated to" in out.stderr:
            return True
        assert b"Permission denied (publickey)" in out.stderr, out.stderr.decode()
        return False

    def opens(self, serving, host, port, **options):
        """Is the channel served? A refusal must be the administrator's."""
        out = self.ssh.run(serving, "-v", "-W", f"[{host}]:{port}", data=b"in", **options)
        if out.returncode == 0:
            return True
        assert b"administratively prohibited" in out.stderr, out.stderr.decode()
        return False


@pytest.fixture
def lines(server, ssh, keys, tmp_path, targets):
    return Lines(server, ssh, keys, tmp_path, targets)


@pytest.mark.parametrize(
    ("options", "comes_in"),
    [
        ('from="127.0.0.1"', True),
        ('from="127.0.0.0/8"', True),
        ('from="10.0.0.0/8"', False),
        ('from="127.*"', True),
        ('from="127.*,!127.0.0.1"', False),
        ('from="!127.0.0.1,*"', False),
        ('from="::1/128,fd00::/8"', False),
        ('FROM="127.0.0.?",No-Pty', True),
        ('expiry-time="19991231"', False),
        ('expiry-time="20991231"', True),
        ('expiry-time="20991231235959Z",expiry-time="199912312359"', False),
        ('command="/bin/false",environment="A=b",no-pty,no-X11-forwarding,no-agent-forwarding,no-user-rc,tunnel="1"', True),
        ('restrict,command="echo \\"a, b\\" \'c\'"', True),
    ],
)
def test_who_comes_in(lines, options, comes_in):
    serving = lines.serve(f"{options} {{key}} a comment")
    assert not serving.lines("authorized key refused")
    assert lines.logs_in(serving) is comes_in
    told = serving.lines('msg="auth refused"')
    if comes_in:
        assert not told
    else:
        assert len(told) == 1, told
        assert re.search(r'reason="(expired|source address) ', told[0]), told
        assert "line 1" in told[0]
        assert len(serving.lines("auth attempt", "result=reject")) == 1


def test_from_with_ipv6(lines, keys, ipv6, tmp_path):
    """A line for IPv6 lets in who comes by IPv6, and nobody else."""
    serving = lines.serve('from="::1/128" {key}', listen="[::1]:0")
    known = tmp_path / "known6"
    keys.known_hosts(known, serving.port, host="::1")
    argv = ["ssh", *procs.SSH_OPTIONS, "-o", f"UserKnownHostsFile={known}", "-i", keys.path("user"), "-p", str(serving.port),
            "-l", USER, "-W", f"127.0.0.1:{lines.targets.sink}", "::1"]
    out = subprocess.run(argv, input=b"in", capture_output=True, timeout=scaled(60), env=procs.environment(), check=False)
    assert out.stdout.startswith(b"2 "), out.stderr.decode()


def test_expiry_is_told_to_nobody(lines, server):
    """An expired line and a stranger's key look the same to the peer (THREATS 9)."""
    serving = lines.serve('expiry-time="20200101" {key}')
    seen = []
    for identity in ("user", "stranger"):
        with sshwire.Wire(serving.port) as wire:
            wire.service()
            wire.auth_request(USER, sshwire.load_key(lines.keys.path(identity)), probe=True)
            seen.append(wire.expect(sshwire.AUTH_FAILURE, sshwire.AUTH_PK_OK))
    assert seen[0] == seen[1]
    assert seen[0][0] == sshwire.AUTH_FAILURE


def test_the_next_line_of_the_same_key_counts(lines):
    """As in sshd: the first line that lets in decides, one that does not is passed over."""
    serving = lines.serve('expiry-time="20200101" {key}', 'from="10.0.0.0/8" {key}', 'permitopen="localhost:1" {key}', "{key}")
    assert lines.logs_in(serving)
    assert not lines.opens(serving, "127.0.0.1", lines.targets.sink)


@pytest.mark.parametrize("line", ["restrict {key}", "no-port-forwarding {key}", "port-forwarding,restrict {key}"])
def test_no_forwarding_at_all(lines, line):
    serving = lines.serve(line)
    assert lines.logs_in(serving)
    assert not lines.opens(serving, "127.0.0.1", lines.targets.sink)
    assert not lines.opens(serving, "alknet-control", 1)


def test_restrict_and_forwarding_again(lines):
    serving = lines.serve("restrict,pty,Port-Forwarding {key}")
    assert lines.opens(serving, "127.0.0.1", lines.targets.sink)


def test_permitopen(lines):
    """Names as they were asked for: an address is not its name."""
    sink, echo = lines.targets.sink, lines.targets.echo
    serving = lines.serve(f'permitopen="127.0.0.1:{sink}",permitopen="localhost:*" {{key}}')
    assert lines.opens(serving, "127.0.0.1", sink)
    assert lines.opens(serving, "localhost", sink)
    for host, port in (("127.0.0.1", echo), ("127.0.0.2", sink), ("LOCALHOST", sink), ("localhost.", sink)):
        assert not lines.opens(serving, host, port), (host, port)


def test_permitopen_any_host(lines):
    serving = lines.serve(f'permitopen="*:{lines.targets.sink}" {{key}}')
    assert lines.opens(serving, "localhost", lines.targets.sink)
    assert not lines.opens(serving, "localhost", lines.targets.echo)


def test_unix_sockets_are_in_no_permitopen(lines, client, targets):
    """A path is asked for as a host: a list with *:* does not have it, whatever the policy says."""
    policy = 'return { on_open = function(_, to) return "forward", to.path and { path = to.path } or nil end }'
    for options, served in (("no-pty", True), ('permitopen="*:*"', False)):
        serving = lines.serve(f"{options} {{key}}", policy=policy)
        running = client(serving, "--forward", f"0:{targets.unix_sink}")
        with net.connect(running.forward_port()) as through:
            try:
                through.sendall(b"in")
                through.shutdown(socket.SHUT_WR)
                answer = through.recv(64)
            except OSError:  # reset, at whichever of the three it was noticed
                answer = b""
            assert answer.startswith(b"2 ") is served


def test_crlf_comments_and_a_long_line(lines):
    sink = lines.targets.sink
    many = ",".join(f'permitopen="host{n}.example:{n + 1}"' for n in range(1500))
    serving = lines.serve("# first\r", "\r", '   from="127.0.0.1"  {key} comment # more\r')
    assert lines.opens(serving, "127.0.0.1", sink)
    assert not serving.lines("authorized key refused")
    text = f'{many},permitopen="127.0.0.1:{sink}" {{key}}'
    assert 40000 < len(text) < 65000
    assert lines.opens(lines.serve(text), "127.0.0.1", sink)


def test_a_line_that_is_too_long(lines):
    serving = lines.serve(f'command="{"x" * 65536}" {{key}}', "{key}")
    told = serving.lines("authorized key refused", "line=1")
    assert told and "65536" in told[0]
    assert lines.logs_in(serving)


def test_a_cert_authority_is_no_key(lines):
    """The key of a cert-authority line does not log in itself."""
    serving = lines.serve("cert-authority {key}")
    assert not lines.logs_in(serving)


# Policies


def test_pass_has_the_rules_of_the_line(lines):
    policy = 'return { on_auth = function() return "pass" end }'
    serving = lines.serve("no-port-forwarding {key}", policy=policy)
    assert lines.logs_in(serving)
    assert not lines.opens(serving, "127.0.0.1", lines.targets.sink)
    assert not lines.logs_in(lines.serve('from="10.0.0.0/8" {key}', policy=policy))


def test_allow_has_the_identity_of_the_script(lines):
    policy = 'return { on_auth = function() return "allow", { id = "anna" } end }'
    serving = lines.serve('no-port-forwarding,from="10.0.0.0/8" {key}', policy=policy)
    assert lines.opens(serving, "127.0.0.1", lines.targets.sink)


def test_a_policy_can_take_away_more(lines):
    policy = 'return { on_open = function() return "deny", "not today" end }'
    serving = lines.serve('permitopen="*:*" {key}', policy=policy)
    assert not lines.opens(serving, "127.0.0.1", lines.targets.sink)


def test_denied_by_policy_is_logged(lines):
    policy = 'return { on_auth = function() return "deny", "wrong day" end }'
    serving = lines.serve("{key}", policy=policy)
    assert not lines.logs_in(serving)
    assert 'reason="wrong day"' in serving.lines('msg="auth refused"')[0]


# Key types

TYPES = {"ecdsa-sha2-nistp256": ("ecdsa", "256"), "ecdsa-sha2-nistp384": ("ecdsa", "384"), "ecdsa-sha2-nistp521": ("ecdsa", "521"),
         "rsa-sha2-256": ("rsa", "3072"), "rsa-sha2-512": ("rsa", "3072")}


def make(path, kind, bits):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", path], check=True, timeout=scaled(120))
    return path, path.with_name(path.name + ".pub").read_text().strip()


@pytest.mark.parametrize("name", TYPES)
def test_key_types(lines, tmp_path, name):
    """A type logs in when key_types lists it; otherwise its line is refused, and so is the key."""
    identity, public = make(tmp_path / "other", *TYPES[name])
    lines.path.write_text(public + "\n" + lines.keys.public("user") + "\n")
    lines.path.chmod(0o600)
    serving = lines.server("--key-types", name, "--key-types", "ssh-ed25519", authorized=lines.path)
    out = lines.ssh.run(serving, "-v", "-o", "IdentitiesOnly=yes", "-i", identity, "-W", f"127.0.0.1:{lines.targets.sink}",
                        identity="stranger", data=b"x")
    assert out.stdout.startswith(b"1 "), out.stderr.decode()
    assert name.encode() in re.search(rb"server-sig-algs=<([^>]*)>", out.stderr)[1].split(b",")
    plain = lines.server(authorized=lines.path)
    assert plain.lines("authorized key refused", "line=1", "key_types")
    out = lines.ssh.run(plain, "-v", "-i", identity, "-N", identity="stranger")
    assert out.returncode == 255
    assert b"server-sig-algs=<ssh-ed25519>" in out.stderr


def test_short_rsa_keys_are_refused(lines, tmp_path):
    identity, public = make(tmp_path / "short", "rsa", "2048")
    lines.path.write_text(public + "\n" + lines.keys.public("user") + "\n")
    lines.path.chmod(0o600)
    policy = 'return { on_auth = function() return "allow", { id = "x" } end }'
    serving = lines.server("--key-types", "rsa-sha2-512", "--key-types", "ssh-ed25519", authorized=lines.path, policy=policy)
    assert "3072 bits" in serving.lines("authorized key refused", "line=1")[0]
    assert lines.ssh.run(serving, "-i", identity, "-o", "IdentitiesOnly=yes", "-N", identity="none-such").returncode == 255
    assert "3072 bits" in serving.lines('msg="auth refused"')[0]


# Certificates: the line and the files. What a certificate may say is test_certificates.py's.


class Authority:
    def __init__(self, directory, keys):
        self.dir, self.keys = directory, keys
        self.key = procs.make_key(directory / "ca")
        self.public = (directory / "ca.pub").read_text().strip()
        self.file = directory / "ca_keys"
        self.file.write_text(f"# an authority\n{self.public}\n")
        self.count = 0

    def identity(self, *flags, who="user", principals=USER, serial=0):
        """A copy of a key with a certificate beside it, which ssh uses by itself."""
        self.count += 1
        copy = self.dir / f"id{self.count}"
        shutil.copy(self.keys.path(who), copy)
        copy.chmod(0o600)
        shutil.copy(f"{self.keys.path(who)}.pub", f"{copy}.pub")
        argv = ["ssh-keygen", "-q", "-s", self.key, "-I", f"id-{self.count}", "-z", str(serial), *flags]
        subprocess.run(argv + (["-n", principals] if principals else []) + [f"{copy}.pub"], check=True, timeout=scaled(60))
        return copy

    def revoke(self, path, *specification):
        """A KRL that has what ssh-keygen -k is told."""
        spec = self.dir / "krl.spec"
        spec.write_text("\n".join(specification) + "\n")
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", path, "-s", f"{self.key}.pub", spec], check=True, timeout=scaled(60))
        return path


@pytest.fixture
def authority(tmp_path, keys):
    return Authority(tmp_path, keys)


@pytest.fixture
def with_cert(lines):
    """Run ssh with a certificate to a server: (authenticated, served)."""

    def run(serving, identity, user=USER):
        out = lines.ssh.run(serving, "-v", "-o", "IdentitiesOnly=yes", "-i", identity, "-W", f"127.0.0.1:{lines.targets.sink}",
                            identity="none-such", data=b"in", user=user)
        return b"Authenticated to" in out.stderr, out.stdout.startswith(b"2 ")

    return run


def test_cert_authority_file(lines, authority, with_cert, server):
    serving = server("--cert-authority", authority.file, authorized=False)
    assert with_cert(serving, authority.identity(serial=7)) == (True, True)
    told = serving.lines('msg="certificate accepted"')
    assert len(told) == 1 and "key_id=id-1" in told[0] and "serial=7" in told[0] and "ca_fingerprint=SHA256:" in told[0]
    assert with_cert(serving, authority.identity(), user="somebody") == (False, False)
    assert 'reason="wrong principal"' in serving.lines('msg="auth refused"')[-1]
    assert with_cert(serving, authority.identity(principals="")) == (False, False)
    assert 'reason="lacks principal list"' in serving.lines('msg="auth refused"')[-1]
    assert not lines.logs_in(serving), "the key without its certificate"


def test_several_authorities(tmp_path, keys, with_cert, server, authority):
    (tmp_path / "two").mkdir()
    other = Authority(tmp_path / "two", keys)
    serving = server("--cert-authority", other.file, "--cert-authority", authority.file, authorized=False)
    assert with_cert(serving, authority.identity())[0]
    assert with_cert(serving, other.identity())[0]
    alone = server("--cert-authority", other.file, authorized=False)
    assert not with_cert(alone, authority.identity())[0]
    assert 'reason="signed by no trusted authority"' in alone.lines('msg="auth refused"')[-1]


@pytest.mark.parametrize(
    ("options", "user", "in_and_served"),
    [
        ("cert-authority", USER, (True, True)),
        ("cert-authority", "other", (False, False)),
        ('cert-authority,principals="tester,x"', "anybody", (True, True)),
        ('cert-authority,principals="x,y"', USER, (False, False)),
        ('cert-authority,from="10.0.0.0/8"', USER, (False, False)),
        ('cert-authority,expiry-time="20200101"', USER, (False, False)),
        ("cert-authority,no-port-forwarding", USER, (True, False)),
        ('cert-authority,permitopen="localhost:1"', USER, (True, False)),
        ("no-pty", USER, (False, False)),
    ],
)
def test_cert_authority_lines(lines, authority, with_cert, options, user, in_and_served):
    serving = lines.serve(f"{options} {authority.public}")
    assert with_cert(serving, authority.identity(), user) == in_and_served


def test_a_certificate_without_forwarding(server, authority, with_cert):
    serving = server("--cert-authority", authority.file, authorized=False)
    assert with_cert(serving, authority.identity("-O", "clear")) == (True, False)


def test_policy_maps_principals(server, authority, with_cert, tmp_path, keys):
    """A script may let in whom a certificate does not name, but not what is not signed, expired or revoked; and it
    cannot give a certificate what it does not permit."""
    policy = 'return { on_auth = function(r) if r.certificate and r.certificate.principals[1] and r.key_type == "ssh-ed25519" then return "allow", { id = "anna" } end return "deny" end }'
    serving = server("--cert-authority", authority.file, authorized=False, policy=policy)
    assert with_cert(serving, authority.identity(principals="admins"), "whoever") == (True, True)
    assert with_cert(serving, authority.identity("-O", "clear"), "whoever") == (True, False)
    assert with_cert(serving, authority.identity("-V", "20200101:20200102"), "whoever") == (False, False)
    (tmp_path / "two").mkdir()
    assert with_cert(serving, Authority(tmp_path / "two", keys).identity()) == (False, False)
    passing = server("--cert-authority", authority.file, authorized=False, policy='return { on_auth = function() return "pass" end }')
    assert with_cert(passing, authority.identity())[0]
    assert not with_cert(passing, authority.identity(principals="admins"))[0]


def test_revoked_keys(lines, server, authority, with_cert, keys, tmp_path):
    """A list and a KRL: plain keys, certificates by serial, and all that an authority signed."""
    listed = tmp_path / "revoked_list"
    listed.write_text(keys.public("user") + "\n")
    serving = server("--revoked-keys", listed, "--cert-authority", authority.file)
    assert not lines.logs_in(serving)
    assert "reason=revoked" in serving.lines('msg="auth refused"')[0]
    assert not with_cert(serving, authority.identity())[0]
    krl = authority.revoke(tmp_path / "krl", "serial: 5-9")
    serving = lines.serve(f"cert-authority {authority.public}", flags=("--revoked-keys", krl))
    assert with_cert(serving, authority.identity(serial=4))[0]
    assert not with_cert(serving, authority.identity(serial=6))[0]
    assert lines.logs_in(server("--revoked-keys", krl))
    listed.write_text(authority.public + "\n")
    serving = server("--revoked-keys", listed, "--cert-authority", authority.file, authorized=False)
    assert not with_cert(serving, authority.identity())[0]


def test_a_revoked_key_does_not_come_to_the_policy(lines, server, keys, tmp_path):
    listed = tmp_path / "revoked_list"
    listed.write_text(keys.public("user") + "\n")
    serving = server("--revoked-keys", listed, policy='return { on_auth = function() return "allow", { id = "x" } end }')
    assert not lines.logs_in(serving)
    assert lines.logs_in(serving, identity="stranger")


def test_damaged_revocations_stop_the_start(server, authority, tmp_path):
    """It fails closed: a KRL that is cut short is an error, not an empty one."""
    krl = authority.revoke(tmp_path / "krl", "serial: 5-9")
    krl.write_bytes(krl.read_bytes()[:-3])
    running = server("--revoked-keys", krl, wait=False)
    running.expected_status = 2
    wait_until(lambda: running.popen.poll() is not None, 20, "the end of the start")
    assert "revoked_keys" in running.log() and str(krl) in running.log()


def test_an_authority_file_without_keys(server, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("# nothing\nnonsense\n")
    running = server("--cert-authority", empty, wait=False)
    running.expected_status = 2
    wait_until(lambda: running.popen.poll() is not None, 20, "the end of the start")
    assert f"{empty}:2:" in running.log()


@pytest.mark.parametrize("every", ["0", "100ms"])
def test_recheck_certificates(server, ssh, authority, every):
    """A certificate that expires in a session: it lives on as in OpenSSH, and ends when it is looked at again."""
    serving = server("--cert-authority", authority.file, "--recheck-certificates", every, authorized=False)
    until = (datetime.datetime.now() + datetime.timedelta(seconds=scaled(8))).strftime("%Y%m%d%H%M%S")
    identity = authority.identity("-V", f"20200101:{until}")
    running = ssh.start(serving, "-o", "IdentitiesOnly=yes", "-i", identity, "-N", identity="none-such")
    wait_until(lambda: serving.lines("auth attempt", "result=accept"), 20, "the login")
    if every == "0":
        wait_until(lambda: datetime.datetime.now().strftime("%Y%m%d%H%M%S") > until, 20, "the certificate's end")
        assert ssh.run(serving, "-o", "IdentitiesOnly=yes", "-i", identity, "-N", identity="none-such").returncode == 255
        assert running.popen.poll() is None
    else:
        wait_until(lambda: running.popen.poll() is not None, 20, "the session's end")
        assert "reason=expired" in serving.lines('msg="certificate no longer good"')[0]
        assert "the login is no longer good" in running.log() and "expired" not in running.log()


@pytest.mark.parametrize("workers", [0, 2])
def test_revoked_while_a_session_runs(lines, server, ssh, authority, keys, tmp_path, workers):
    """A reload of revoked_keys reaches the sessions that go on: certificates and plain keys (THREATS 2)."""
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    serving = lines.serve("{key}", f"cert-authority {authority.public}", workers=workers,
                          flags=("--revoked-keys", revoked, "--recheck-certificates", "100ms"))
    certificate = ssh.start(serving, "-o", "IdentitiesOnly=yes", "-i", authority.identity(who="stranger", serial=7), "-N",
                            identity="none-such")
    plain = ssh.start(serving, "-N")
    wait_until(lambda: len(serving.lines("auth attempt", "result=accept")) == 2, 20, "the logins")
    krl = authority.revoke(tmp_path / "krl", "serial: 7")
    revoked.write_bytes(krl.read_bytes())
    serving.call("keys.reload")
    wait_until(lambda: certificate.popen.poll() is not None, 20, "the end of the session with the certificate")
    assert len(serving.lines('msg="certificate no longer good"', "reason=revoked")) == 1
    assert plain.popen.poll() is None
    revoked.write_text(keys.public("user") + "\n")
    serving.call("keys.reload")
    wait_until(lambda: plain.popen.poll() is not None, 20, "the end of the session with the plain key")


# Host keys


@pytest.mark.parametrize("kind", [("ecdsa", "256"), ("rsa", "3072")])
def test_host_keys_of_several_types(server, keys, ssh, lines, tmp_path, kind):
    """Old clients get a key of the type that they can check; who can takes Ed25519."""
    other, public = make(tmp_path / "host_other", *kind)
    other.chmod(0o600)
    serving = server("--key", other)
    known = tmp_path / "known_other"
    known.write_text(f"[127.0.0.1]:{serving.port} {public}\n")
    kinds = {"ecdsa": "ecdsa-sha2-nistp256", "rsa": "rsa-sha2-512,rsa-sha2-256"}[kind[0]]
    flags = ("-o", f"UserKnownHostsFile={known}", "-o", f"HostKeyAlgorithms={kinds}")
    argv = [*ssh.argv(serving)[:1], *flags, *ssh.argv(serving)[1:], "-W", f"127.0.0.1:{lines.targets.sink}", "127.0.0.1"]
    out = subprocess.run(argv, input=b"in", capture_output=True, timeout=scaled(60), env=procs.environment(), check=False)
    assert out.stdout.startswith(b"2 "), out.stderr.decode()
    assert lines.opens(serving, "127.0.0.1", lines.targets.sink), "Ed25519 too"


def test_two_host_keys_of_a_kind(server, tmp_path):
    other = procs.make_key(tmp_path / "second_host")
    running = server("--key", other, wait=False)
    running.expected_status = 2
    wait_until(lambda: running.popen.poll() is not None, 20, "the end of the start")
    assert "of one kind" in running.log()
