# SPDX-License-Identifier: MIT OR Apache-2.0
"""A tls port with `stealth` beside the real nginx with the same certificate: whatever a stranger sends, both answer
with the same bytes in the same records, end the connection in the same way and as late. Holds THREATS row 67.

nginx's times and ours are divided by SCALE; `make check-stealth-slow` has them at full length."""

import os
import subprocess

import pytest

from harness import nginx, procs
from harness.prober import Prober, context, run_all
from harness.stealth_probes import ANSWERED, CLOSE, get, http_probes, staying_probes
from harness.tls_probes import tls_probes

# alone: when a connection is ended is compared to the second.
pytestmark = [pytest.mark.part("tls"), pytest.mark.alone]

SCALE = int(os.environ.get("ALKNET_STEALTH_SCALE", "5"))
LINGER, HEADER, IDLE = (nginx.TIMES[name] / SCALE for name in ("lingering_timeout", "client_header_timeout", "keepalive_timeout"))
# A visitor more than this would end the oldest one of ours (SITES_MAX).
AT_ONCE = 700


class Probe:
    def __init__(self, name, arguments, pieces, half_close=None):
        self.name, self.arguments, self.pieces, self.half_close = name, arguments, pieces, half_close

    def run(self, port, gate):
        return Prober(port, scale=SCALE, **self.arguments).run(gate, self.pieces, self.half_close)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificate")
    cert, key = directory / "cert.pem", directory / "key.pem"
    # RSA: its signatures have one length, ECDSA's have three.
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=example.org"],
        check=True, capture_output=True,
    )
    os.chmod(key, 0o600)
    return cert, key


@pytest.fixture
def real(tmp_path, certificate):
    if nginx.find() is None:
        pytest.skip(f"{nginx.VERSION} is not installed")
    running = nginx.Nginx(tmp_path, *certificate, scale=SCALE)
    yield running
    running.stop()


@pytest.fixture
def ours(server, certificate):
    def start(*flags, **more):
        cert, key = certificate
        flags = [*flags, "--max-startups", "5000:1:5000", "--max-handshakes", "0"]  # limits at the door show
        env = procs.environment(ALKNET_STEALTH_SCALE=str(SCALE))
        return server("--transport", "tls", "--tls-cert", str(cert), "--tls-key", str(key), "--stealth", *flags, env=env, **more)

    return start


def when(quiet):
    """After how much silence it ended: at once, or which of nginx's times it was."""
    if quiet < LINGER / 2:
        return "at once"
    if quiet < LINGER * 3:
        return "5 s"
    return "60 s" if quiet < (HEADER + IDLE) / 2 else "75 s"


def comparable(seen):
    """Also what is left of 60 s in all is seen, from the connection's begin, where the last byte came late."""
    early = seen.seconds < HEADER * 0.9
    return {**vars(seen), "late": None, "quiet": when(seen.quiet), "silent": when(seen.silent), "seconds": "early" if early else "late"}


def unlike(a, b):
    """What of two is different. Which byte a server's clock began with is not always to be seen from here, when this
    program comes late: one of the two silences has to be the same."""
    found = [what for what in a if a[what] != b[what]]
    silences = {"quiet", "silent"}
    return found if silences <= set(found) else [what for what in found if what not in silences]


def in_time(probes, ports):
    """What each saw. Who paused for longer than he meant to, since this machine had no time for him, says it all again."""
    seen, late = {}, probes
    for _ in range(5):
        for probe, both in zip(late, run_all(late, ports)):
            seen[probe.name] = both
        late = [probe for probe in probes if max(one.late for one in seen[probe.name]) > LINGER / 4]
        if not late:
            return [seen[probe.name] for probe in probes]
    raise AssertionError(f"this machine is too slow for {[probe.name for probe in late]}")


def differences(probes, first, second):
    """A text for the name of each probe that sees a difference."""
    assert len({probe.name for probe in probes}) == len(probes)
    found = {}
    assert len(probes) < AT_ONCE
    for probe, (seen_a, seen_b) in zip(probes, in_time(probes, (first, second))):
        a, b = comparable(seen_a), comparable(seen_b)
        wrong = [f"\n    {what}: nginx {a[what]!r}\n    {' ' * len(what)}  ours  {b[what]!r}" for what in unlike(a, b)]
        if wrong:
            found[probe.name] = f"{probe.name}:{''.join(wrong)}\n  all of nginx {vars(seen_a)!r}\n  all of ours  {vars(seen_b)!r}"
    print(f"{len(probes)} probes, {len(found)} differences")
    return found


def check(probes, first, second):
    """What differs once may be this machine's doing, what differs each time is the server's."""
    found = differences(probes, first, second)
    for _ in range(3):
        if not found:
            break
        found = differences([probe for probe in probes if probe.name in found], first, second)
    assert not found, f"{len(found)} of {len(probes)} probes see a difference:\n" + "\n".join(list(found.values())[:20])


def test_t67_http_is_nginx(real, ours):
    probes = [Probe(name, {"tls": context()}, pieces) for name, pieces in http_probes()]
    probes += [Probe(name, {"tls": context(), "stays": True}, pieces) for name, pieces in staying_probes(SCALE == 1)]
    assert len(probes) > 500
    check(probes, real.port, ours().port)


def test_t67_tls_is_nginx(real, ours):
    probes = [Probe(*probe) for probe in tls_probes()]
    assert len(probes) > 100
    check(probes, real.port, ours().port)


def keyed_probes():
    """What comes near to the request that makes a client known, or would be one of a server without a secret."""
    knock = b"GET /" + b"aB3-_" * 8 + b"abc HTTP/1.1\r\nHost: example.org\r\n\r\n"
    yield "SSH", [b"SSH-2.0-OpenSSH_9.2\r\n"]
    yield "SSH in pieces", [b"SSH", b"-2.0-", b"x\r\n"]
    yield "half of SSH", [b"SSH-"]
    yield "SSH, second", [get(), ANSWERED, b"SSH-2.0-x\r\n"]
    yield "wrong key", [knock]
    yield "wrong key and SSH", [knock + b"SSH-2.0-x\r\n"]
    yield "wrong key, then SSH", [knock, ANSWERED, b"SSH-2.0-x\r\n"]
    yield "wrong key in pieces", [bytes([byte]) for byte in knock]
    yield "wrong key, HTTP/1.0", [knock.replace(b"1.1", b"1.0")]
    for n in (4, 5, 20, 47, 48, 49, 60, 66, len(knock) - 2, len(knock) - 1):
        yield f"{n} bytes of a key", [knock[:n]]
        yield f"{n} bytes of a key and a zero", [knock[:n] + b"\x00"]
        yield f"{n} bytes of a key and a line", [knock[:n] + b"\r\n" + get(CLOSE)]


def test_t67_keyed_is_nginx(real, ours):
    """With a secret a bare SSH-2.0- is as bad a request as it is to nginx."""
    secret = subprocess.run([procs.alknet(), "secret", "new"], capture_output=True, text=True, check=True, env=procs.environment()).stdout
    probes = [Probe(name, {"tls": context()}, pieces) for name, pieces in keyed_probes()]
    check(probes, real.port, ours(conf=f'stealth_secret = "{secret.strip()}"').port)


@pytest.mark.parametrize("version, command", [("-tls1_2", "R"), ("-tls1_3", "K"), ("-tls1_3", "k")])
def test_t67_renegotiation_is_nginx(real, ours, version, command):
    """R: renegotiation; K and k: new keys of TLS 1.3. What the server says, message by message."""

    def messages(port):
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-msg"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
            running.stdin.write(f"{command}\n".encode())
            running.stdin.flush()
            said = running.stdout.read()  # until the server has waited long enough
        return [line for line in said.decode("utf-8", "replace").splitlines() if line.startswith("<<<")]

    heard = messages(real.port)
    assert heard
    assert messages(ours().port) == heard


def test_t67_tests_find_a_difference(real, tmp_path, certificate):
    """The comparison sees what it should: nginx itself is the same as nginx, and not with another setting."""
    probes = [Probe(name, {"tls": context()}, pieces) for name, pieces in http_probes() if name.startswith("encoding b'gzip")]
    check(probes, real.port, real.port)
    other = tmp_path / "other"
    other.mkdir()
    real_template = nginx.CONF
    try:
        nginx.CONF = real_template.replace("gzip on", "gzip off")
        another = nginx.Nginx(other, *certificate, scale=SCALE)
    finally:
        nginx.CONF = real_template
    try:
        assert differences(probes, real.port, another.port)
    finally:
        another.stop()
