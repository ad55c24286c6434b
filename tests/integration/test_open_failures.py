# SPDX-License-Identifier: MIT OR Apache-2.0
"""Opens that fail: soon, told as a failure, and in nobody else's way (THREATS 27, 28, 32)."""

import threading
import time

import pytest

from conftest import PAIRS, USER
from harness import net, sshwire
from harness.waiting import patient, scaled, wait_until

# RFC 1928 6: what each failure may be called.
NAMES = {"refused": {5}, "unreachable": {3, 4}, "timeout": {4, 6}, "name": {4}}


def socks_failure(pair, host, port):
    start = time.monotonic()
    # ssh -D closes without an answer, alknet says why.
    with pytest.raises((net.ProxyRefused, EOFError)) as refused:
        pair.connect(port, host=host).close()
    return getattr(refused.value, "code", None), time.monotonic() - start


@pytest.mark.parametrize("name", PAIRS)
def test_t27_refused(make_pair, targets, name):
    pair = make_pair(name)
    code, seconds = socks_failure(pair, "127.0.0.1", targets.refused)
    assert seconds < patient(2)
    assert name == "alknet+openssh" or code in NAMES["refused"]
    with pair.connect(targets.echo) as sock:
        net.ask_echo(sock)


def test_t27_unreachable(make_pair):
    """A broadcast address cannot be connected to: the kernel says so at once."""
    code, seconds = socks_failure(make_pair("alknet+alknet"), "255.255.255.255", 9)
    assert code in NAMES["unreachable"] and seconds < patient(5)


@pytest.mark.parametrize("name", ["alknet+alknet", "alknet+openssh"])
def test_t27_timeout_delays_nobody(make_pair, targets, name):
    """A target that does not answer fails after connect_timeout; meanwhile others open at once."""
    pair = make_pair(name, serve=("--connect-timeout", "2"))
    result = {}

    def ask():
        try:
            pair.connect(targets.blackhole).close()
        except (net.ProxyRefused, EOFError) as error:
            result["error"] = error

    start = time.monotonic()
    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: pair.server.metric("alknet_channels_total") >= 5, 10, "the opens to be asked")
    times = []
    for _ in range(10):
        asked = time.monotonic()
        with pair.connect(targets.echo) as sock:
            net.ask_echo(sock)
        times.append(time.monotonic() - asked)
    assert sorted(times)[5] < scaled(1)
    for thread in threads:
        thread.join(patient(10))
    assert "error" in result
    assert name == "alknet+openssh" or result["error"].code in NAMES["timeout"]
    assert 1.5 < time.monotonic() - start < patient(6)


def test_t28_no_such_name(make_pair, targets):
    pair = make_pair("alknet+alknet", serve=("--connect-timeout", "3"))
    result = []

    def ask():
        result.append(socks_failure(pair, "no-such-host.invalid", 80))

    thread = threading.Thread(target=ask)
    thread.start()
    with pair.connect(targets.echo) as sock:
        net.ask_echo(sock)
    thread.join(patient(15))
    code, seconds = result[0]
    # A resolver that does not answer is a timeout, one that knows better says so.
    assert code in NAMES["name"] | NAMES["timeout"] and seconds < patient(5)


@pytest.mark.parametrize("host", ["", "a" * 255, "..", "-", "a b", "127.0.0.1\0.example", "\xff\xfe", "[::1]", "a" * 64 + ".example", "%00"])
def test_t28_names_that_cannot_be(server, keys, targets, host):
    """Whatever a peer calls a host: that open fails, the session goes on."""
    serving = server("--connect-timeout", "3")
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        wire.open_request(1, host.encode("latin-1"), 80)
        assert wire.expect(sshwire.OPEN_FAILURE, sshwire.OPEN_CONFIRMATION)[0] == sshwire.OPEN_FAILURE
        channel, _ = wire.open_channel(2, "127.0.0.1", targets.echo)
        wire.data(channel, b"on")
        assert wire.read(2) == b"on"


def test_t28_a_very_long_name(server, keys, targets):
    serving = server()
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        wire.open_request(1, "h" * 30000, 80)
        assert wire.expect(sshwire.OPEN_FAILURE, sshwire.OPEN_CONFIRMATION)[0] == sshwire.OPEN_FAILURE
        assert wire.open_channel(2, "127.0.0.1", targets.echo)


def test_reserved_names_are_never_resolved(server, keys, targets):
    """alknet-* belongs to alknet: without such a service the open fails; case matters."""
    serving = server()
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        for host in ("alknet-status", "alknet-nothing", "alknet-", "alknet-Control"):
            assert wire.open_channel(1, host, 0) is None
        assert wire.open_channel(2, "127.0.0.1", targets.echo)


def test_t27_the_reason_is_told_besides(server, ssh, targets):
    """ssh -v shows why, whatever the reason code is."""
    out = ssh.run(server(), "-W", f"127.0.0.1:{targets.refused}", "-v")
    assert out.returncode != 0
    assert b"refused" in out.stderr.lower(), out.stderr.decode()[-1500:]


def test_t32_gone_while_connects_are_pending(server, keys, targets):
    """Many opens, then the session goes before any of them is answered."""
    serving = server("--connect-timeout", "5")
    key = sshwire.load_key(keys.path("user"))
    for _ in range(3):
        with sshwire.Wire(serving.port) as wire:
            wire.login(key)
            for n in range(100):
                wire.open_request(n, "127.0.0.1" if n % 2 else "localhost", targets.blackhole)
            assert wire.is_alive()
    wait_until(lambda: serving.metric("alknet_sessions") == 0, 10, "the sessions to be gone")
    wait_until(lambda: serving.metric("alknet_channels") == 0, 10, "the channels to be gone")
    with sshwire.Wire(serving.port) as wire:
        wire.login(key, USER)
        assert wire.open_channel(1, "127.0.0.1", targets.echo)


def test_t32_closed_while_the_connect_is_pending(server, keys, targets):
    """The application gives up first: its channel is let go when the answer comes."""
    serving = server("--connect-timeout", "1")
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        wire.open_request(1, "127.0.0.1", targets.blackhole)
        wire.send(bytes([sshwire.CLOSE]) + sshwire.u32(43))
        wire.expect(sshwire.OPEN_FAILURE)
        assert wire.is_alive()


def test_early_success_is_never_told(server, keys, targets):
    """The open is answered only when the target has answered."""
    serving = server("--connect-timeout", "5")
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        wire.open_request(1, "127.0.0.1", targets.blackhole)
        wire.open_request(2, "127.0.0.1", targets.echo)
        first = wire.expect(sshwire.OPEN_CONFIRMATION, sshwire.OPEN_FAILURE)
        assert first[0] == sshwire.OPEN_CONFIRMATION and first[1:5] == sshwire.u32(2)
        second = wire.expect(sshwire.OPEN_CONFIRMATION, sshwire.OPEN_FAILURE)
        assert second[0] == sshwire.OPEN_FAILURE and second[1:5] == sshwire.u32(1)
