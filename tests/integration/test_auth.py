# SPDX-License-Identifier: MIT OR Apache-2.0
"""Authentication: who is let in, what the others learn, and what the log says (THREATS 7 to 12)."""

import re
import subprocess
import time

import pytest

from conftest import USER
from harness import procs, sshwire
from harness.waiting import patient, scaled, wait_until

KEY_AND_NAME = re.compile(rb"(SHA256:\S+)|(/\S+)|(\d{2,})|\b(tester|nobody-here)\b|(?<=Offering public key: ).*|0x\w+")


def test_the_right_key(server, ssh, targets, workers):
    serving = server(workers=workers)
    out = ssh.run(serving, "-W", f"127.0.0.1:{targets.sink}", data=b"in")
    assert out.stdout.startswith(b"2 "), out


def refused(out):
    assert out.returncode == 255
    return b"Permission denied (publickey)" in out.stderr


def test_t09_unknown_user_and_wrong_key_look_the_same(server, ssh):
    """Line by line what ssh -v shows is the same for a refused key, whoever asks."""
    serving = server()
    seen = []
    for user in (USER, "nobody-here"):
        out = ssh.run(serving, "-N", "-vv", user=user, identity="stranger")
        assert refused(out), out.stderr.decode()
        lines = [KEY_AND_NAME.sub(b"*", line) for line in out.stderr.splitlines() if b"Authenticating to" not in line]
        seen.append(lines)
    assert seen[0] == seen[1]


def test_t09_same_time(server, keys):
    """Refusals, interleaved, do not tell users apart."""
    serving = server("--max-auth-attempts", "100")
    key = sshwire.load_key(keys.path("stranger"))
    times = {USER: [], "nobody-here": []}
    for _ in range(15):
        for user, found in times.items():
            with sshwire.Wire(serving.port) as wire:
                wire.service()
                start = time.monotonic()
                wire.auth_request(user, key)
                assert wire.expect(sshwire.AUTH_FAILURE, sshwire.AUTH_SUCCESS)[0] == sshwire.AUTH_FAILURE
                found.append(time.monotonic() - start)
    # Of many the shortest: what else the machine had to do is not in it.
    least = [min(found) for found in times.values()]
    assert abs(least[0] - least[1]) < scaled(0.01), least


def test_t09_probe(server, keys):
    """PK_OK only for a key that is authorised."""
    serving = server()
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        for name, answer in (("stranger", sshwire.AUTH_FAILURE), ("user", sshwire.AUTH_PK_OK)):
            wire.auth_request(USER, sshwire.load_key(keys.path(name)), probe=True)
            assert wire.expect(sshwire.AUTH_FAILURE, sshwire.AUTH_PK_OK, sshwire.AUTH_SUCCESS)[0] == answer
        wire.open_request(1, "127.0.0.1", 9)
        try:
            assert wire.recv()[0] != sshwire.OPEN_CONFIRMATION
        except sshwire.Closed:
            pass


@pytest.mark.parametrize("method", ["password", "keyboard-interactive", "none", "hostbased", "gssapi-with-mic", "x" * 200])
def test_other_methods(server, keys, method):
    """Public keys alone: all else is refused, and publickey named as what remains."""
    serving = server()
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        payload = bytes([sshwire.AUTH_REQUEST]) + sshwire.string(USER) + sshwire.string("ssh-connection") + sshwire.string(method)
        payload += {"password": b"\0" + sshwire.string("secret"), "keyboard-interactive": sshwire.string("") * 2}.get(method, b"")
        wire.send(payload)
        try:
            answer = wire.expect(sshwire.AUTH_FAILURE, sshwire.AUTH_SUCCESS, 60)
        except sshwire.Closed:
            return
        assert answer[0] == sshwire.AUTH_FAILURE
        assert sshwire.Reader(answer[1:]).string() == b"publickey"


def test_attempts_are_limited(server, keys):
    """Ten attempts by default, then the connection ends; fewer when told."""
    for flags, most in (((), 10), (("--max-auth-attempts", "3"), 3)):
        serving = server(*flags)
        key = sshwire.load_key(keys.path("stranger"))
        tries = 0
        with sshwire.Wire(serving.port) as wire:
            wire.service()
            try:
                while tries < 50:
                    wire.auth_request(USER, key)
                    wire.expect(sshwire.AUTH_FAILURE)
                    tries += 1
            except sshwire.Closed:
                pass
        assert most - 1 <= tries <= most, f"{tries} attempts were answered, {most} are allowed"
        assert len(serving.lines("auth attempt", "result=reject")) in (most, most + 1)


def test_ssh_with_many_keys(server, ssh, keys, tmp_path):
    """The right key among the first ten gets in; more keys than attempts do not."""
    serving = server("--max-auth-attempts", "4")
    flags = []
    for n in range(5):
        flags += ["-i", procs.make_key(tmp_path / f"many{n}")]
    out = ssh.run(serving, *flags[:4], "-W", "127.0.0.1:1", "-v")
    assert b"Authenticated to" in out.stderr, out.stderr.decode()
    out = ssh.run(serving, *flags, "-N", identity="stranger")
    assert out.returncode == 255


def test_t08_bad_signatures(server, keys):
    """A signature that does not verify is counted and cut, long before the deadline."""
    serving = server("--handshake-timeout", "60")
    key = sshwire.load_key(keys.path("user"))
    start = time.monotonic()
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        with pytest.raises(sshwire.Closed):
            for _ in range(30):
                wire.auth_request(USER, key, spoil=True)
            wire.wait_closed()
            raise sshwire.Closed
    assert time.monotonic() - start < scaled(50)
    assert not serving.lines("result=accept")


def test_t08_one_bad_signature(server, ssh, keys, targets):
    """One bad signature never authenticates, and the next connection is as good as ever."""
    serving = server("--handshake-timeout", "20")
    key = sshwire.load_key(keys.path("user"))
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        wire.auth_request(USER, key, spoil=True)
        wire.open_request(1, "127.0.0.1", targets.echo)
        try:
            while True:
                assert wire.recv()[0] not in (sshwire.AUTH_SUCCESS, sshwire.OPEN_CONFIRMATION)
        except sshwire.Closed:
            pass
    assert not serving.lines("result=accept")
    assert ssh.run(serving, "-W", f"127.0.0.1:{targets.sink}", data=b"x").returncode == 0


SLOW = 'return { on_auth = function(request) alknet.sleep(%s) return "pass" end }\n'


def password(length):
    head = bytes([sshwire.AUTH_REQUEST]) + sshwire.string(USER) + sshwire.string("ssh-connection") + sshwire.string("password")
    return head + b"\0" + sshwire.string(b"x" * length)


@pytest.mark.parametrize("attempts, length", [(10, 30000), (10, 10), (1000, 30000), (1000, 250000)])
def test_t01_requests_while_one_is_judged(server, keys, attempts, length):
    """What comes while on_auth waits is kept in memory: as many requests as there may be attempts, and few bytes."""
    serving = server("--max-auth-attempts", str(attempts), "--handshake-timeout", "60s", policy=SLOW % 4)
    before = serving.memory()
    sent = 0
    start = time.monotonic()
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        wire.auth_request(USER, sshwire.load_key(keys.path("user")))
        try:
            while sent < 32 << 20 and time.monotonic() - start < scaled(20):
                wire.send(password(length))
                sent += length
        except sshwire.Closed:
            pass
        else:
            raise AssertionError(f"{sent} bytes were taken, {serving.memory() - before} of memory with them")
    serving.wait_log("connection closed")
    assert len(serving.lines("auth attempt", "result=reject")) == 1


def test_requests_that_do_not_wait(server, keys):
    """A few at once are answered one by one, however long each takes, and the right one lets in."""
    serving = server(policy=SLOW % 0.2)
    with sshwire.Wire(serving.port) as wire:
        service = bytes([sshwire.SERVICE_REQUEST]) + sshwire.string("ssh-userauth")
        wire.raw(wire.pack(service) + wire.pack(password(10)))
        for _ in range(3):
            wire.auth_request(USER, sshwire.load_key(keys.path("stranger")))
        wire.auth_request(USER, sshwire.load_key(keys.path("user")), probe=True)
        wire.auth_request(USER, sshwire.load_key(keys.path("user")))
        wire.expect(sshwire.AUTH_SUCCESS)
        assert wire.is_alive()


def test_t10_user_name_changes(server, keys):
    """Another user name in the same connection never gets in."""
    serving = server()
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        wire.auth_request("somebody", sshwire.load_key(keys.path("stranger")))
        wire.expect(sshwire.AUTH_FAILURE)
        try:
            wire.auth_request("else", sshwire.load_key(keys.path("user")))
            assert wire.expect(sshwire.AUTH_FAILURE, sshwire.AUTH_SUCCESS)[0] == sshwire.AUTH_FAILURE
        except sshwire.Closed:
            pass
    assert not serving.lines("result=accept")


NAMES = {
    "newline": b'a\nlevel=info msg="auth attempt" remote_addr=203.0.113.9 user=root result=reject',
    "carriage": b"a\r\nlevel=error",
    "quote": b'a" remote_addr=203.0.113.9 x="',
    "backslash": b"a\\",
    "space": b"a b remote_addr=203.0.113.9",
    "escape": b"\x1b[2J\x1b]0;x\x07",
    "nul": b"a\0b",
    "utf8": "gr\u00fc\u00df\u2028".encode(),
    "bad-utf8": b"\xff\xfe\x80",
    "empty": b"",
    "long": b"n" * 30000,
    "controls": bytes(range(1, 32)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key_name", ["user", "stranger"])
def test_t11_user_names(server, keys, name, key_name):
    """A user name cannot forge a line, break one, or carry a control byte into the log."""
    serving = server("--handshake-timeout", "3")
    try:
        with sshwire.Wire(serving.port) as wire:
            wire.login(sshwire.load_key(keys.path(key_name)), NAMES[name])
    except (sshwire.Closed, PermissionError):
        pass
    wait_until(lambda: serving.lines("connection closed"), 10, "the connection to be closed")
    raw = serving.log_path.read_bytes()
    assert all(byte in (9, 10) or 32 <= byte < 127 for byte in raw), raw
    log = serving.log()
    assert all(len(line) < 2000 for line in log.splitlines())
    assert not re.search(r'remote_addr=203\.0\.113\.9(?=[^"]*$)', log, re.M), "a forged address"
    for line in serving.lines('msg="auth attempt"'):
        assert line.startswith(("level=info", "time=", "ts=")) and line.count('msg="auth attempt"') == 1 or name == "newline"
        assert re.search(r'msg="auth attempt" remote_addr=127\.0\.0\.1 user=("(?:[^"\\]|\\.)*"|[^\s"]*) key_fingerprint=SHA256:\S+ result=\w+$', line), line
    if key_name == "stranger":
        assert not serving.lines("result=accept")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_t12_other_key_types_do_not_hang(server, ssh, keys, tmp_path, targets, kind):
    """ssh with a key of another type is told so at once, and goes on to its Ed25519 key."""
    other = procs.make_key(tmp_path / f"id_{kind}", kind)
    serving = server("--handshake-timeout", "30")
    start = time.monotonic()
    argv = [a if a != keys.path("user") else str(other) for a in ssh.argv(serving, "-N")] + ["127.0.0.1"]
    out = subprocess.run(argv, capture_output=True, timeout=scaled(60), check=False)
    assert out.returncode == 255
    assert time.monotonic() - start < scaled(25)
    argv = ssh.argv(serving, "-W", f"127.0.0.1:{targets.sink}")
    argv[argv.index("-i") : argv.index("-i")] = ["-i", str(other)]
    out = subprocess.run([*argv, "127.0.0.1"], input=b"x", capture_output=True, timeout=scaled(20), check=False)
    assert out.stdout.startswith(b"1 "), out


def test_t12_only_ed25519_is_announced(server):
    """server-sig-algs names what is taken, so that clients offer nothing else."""
    serving = server()
    with sshwire.Wire(serving.port, start=False) as wire:
        found = []
        wire.hello()
        ours = wire.kexinit().replace(
            sshwire.string("curve25519-sha256,kex-strict-c-v00@openssh.com"),
            sshwire.string("curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com"),
        )
        inner = wire.packet

        def watch():
            payload = inner()
            if payload[0] == sshwire.EXT_INFO:
                found.append(payload)
            return payload

        wire.packet = watch
        wire.exchange_keys(ours=ours)
        wire.service()
    assert found, "no EXT_INFO came"
    fields = sshwire.Reader(found[0][1:])
    extensions = {}
    for _ in range(fields.u32()):
        name = fields.string()
        extensions[name] = fields.string()
    names = set(extensions[b"server-sig-algs"].decode().split(","))
    assert "ssh-ed25519" in names
    assert names <= {"ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"}, names


def test_t07_rekey_flood(server, keys, targets):
    """A peer that does nothing but exchange keys is disconnected; others are served meanwhile."""
    serving = server()
    key = sshwire.load_key(keys.path("user"))
    with sshwire.Wire(serving.port) as wire, sshwire.Wire(serving.port) as other:
        wire.login(key)
        channel, _ = other.login(key).open_channel(1, "127.0.0.1", targets.echo)
        with pytest.raises(sshwire.Closed):
            for n in range(3000):
                wire.exchange_keys()
                if n % 100 == 0:
                    other.data(channel, b"ping")
                    assert other.read(4) == b"ping"
        assert other.is_alive()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no-such-option {key}", "there is no option no-such-option"),
        ('restrict,from="10.0.0.1/8" {key}', "from="),
        ('permitopen="host" {key}', "permitopen="),
        ('expiry-time="never" {key}', "expiry-time="),
        ('principals="tester" {key}', "cert-authority"),
        ("ssh-rsa {blob}", ""),
        ("ssh-ed25519 AAAA", ""),
        ("ssh-ed25519 !!!!", ""),
        ("ssh-ed25519", ""),
        ("garbage", ""),
    ],
)
def test_authorized_keys_lines_that_are_refused(server, ssh, keys, tmp_path, targets, line, why):
    """A line that is not understood is refused and logged as file:line; the rest stands."""
    text = line.format(key=keys.public("stranger"), blob=keys.public("stranger").split()[1])
    path = tmp_path / "mixed_keys"
    path.write_text(f"# comment\n\n{text}\n{keys.public('user')}\n")
    path.chmod(0o600)
    serving = server(authorized=path)
    told = serving.lines(f"{path}:3") or serving.lines(str(path), "line=3")
    assert told, serving.log()
    assert why in told[0]
    assert refused(ssh.run(serving, "-N", identity="stranger"))
    assert ssh.run(serving, "-W", f"127.0.0.1:{targets.sink}", data=b"x").returncode == 0


def test_authorized_keys_with_comments_and_several(server, ssh, keys, tmp_path, targets):
    path = tmp_path / "two_keys"
    path.write_text(f"   # a\n\t{keys.public('user')} with a long comment \u00e9\r\n\n{keys.public('stranger')}")
    path.chmod(0o600)
    serving = server(authorized=path)
    for identity in ("user", "stranger"):
        assert ssh.run(serving, "-W", f"127.0.0.1:{targets.sink}", data=b"x", identity=identity).returncode == 0


def test_nobody_to_let_in(keys, tmp_path):
    """serve with no authorized keys and no on_auth is an error at start."""
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--listen", "127.0.0.1:0", "--admin-socket", "none"]
    out = subprocess.run(argv, capture_output=True, timeout=patient(10), env=procs.environment(), check=False)
    assert out.returncode == 2
    assert b"authorized" in out.stderr
