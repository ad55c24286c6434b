# SPDX-License-Identifier: MIT OR Apache-2.0
"""Before authentication: garbage, floods and silence (THREATS 1 to 6)."""

import contextlib
import os
import re
import socket
import struct
import time

import pytest

from harness import net, sshwire
from harness.procs import cpu_seconds
from harness.waiting import patient, scaled, wait_until


# For what ends at once: nobody waits for this deadline, and who compares with two thirds of it sees that.
FAR_DEADLINE = ("--handshake-timeout", str(round(scaled(60))))


def said_within(sock, seconds):
    """Read until the server closes; gives what it said."""
    said = b""
    sock.settimeout(scaled(seconds))
    try:
        while piece := sock.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise AssertionError(f"still open after {scaled(seconds):g} s") from None
    return said


def closed_within(sock, seconds):
    """Read until the server closes; gives how long it took."""
    start = time.monotonic()
    said_within(sock, seconds)
    return time.monotonic() - start


def still_serves(serving, keys, targets):
    """Whose handshakes may be short: one that the machine was too slow for does not count."""

    def once():
        try:
            with sshwire.Wire(serving.port) as wire:
                wire.login(sshwire.load_key(keys.path("user")))
                channel, _ = wire.open_channel(1, "127.0.0.1", targets.echo)
                wire.data(channel, b"still here")
                return wire.read(10) == b"still here"
        except (sshwire.Closed, OSError):
            return False

    wait_until(once, 10, "somebody to be served")


def test_t01_silence_is_cut_at_the_deadline(server, keys, targets):
    serving = server("--handshake-timeout", "1")
    start = time.monotonic()
    with net.connect(serving.port) as sock:
        closed_within(sock, patient(4))
        assert time.monotonic() - start >= 0.5
    wait_until(lambda: serving.metric("alknet_handshake_timeouts_total") == 1, 5, "the timeout to be counted")
    still_serves(serving, keys, targets)


def test_t01_slow_bytes_do_not_move_the_deadline(server):
    serving = server("--handshake-timeout", "1")
    start = time.monotonic()
    with net.connect(serving.port) as sock:
        def drip():
            try:
                sock.sendall(b"S")
                return not sock.recv(1000)
            except (ConnectionResetError, BrokenPipeError):
                return True

        wait_until(drip, 5, "the server to close")
    assert time.monotonic() - start < patient(4)


def test_t01_a_silent_connection_is_small(server, sanitized):
    """At most 10 KB of memory each."""
    if sanitized:
        pytest.skip("memory is measured in a plain build")
    serving = server("--max-startups", "1000:30:1000")
    socks = []

    def more(n):
        # A few at a time: what the server holds while it is behind with a crowd is not theirs, and stays with it.
        for _ in range(0, n, 20):
            socks.extend(net.connect(serving.port) for _ in range(20))
            wait_until(lambda: len(serving.lines("connection opened")) >= len(socks), 10, "the connections")

    more(400)
    before = serving.memory()
    more(400)
    growth = (serving.memory() - before) / 400
    for sock in socks:
        sock.close()
    print(f"{growth:.0f} bytes each")
    assert growth <= 10240, f"{growth:.0f} bytes each"


@pytest.mark.parametrize(
    "words",
    [
        b"x" * 100000,
        b"SSH-2.0-" + b"a" * 300 + b"\r\n",
        b"\0" * 5000,
        b"\n" * 100000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 500,
        b"SSH-1.5-old\r\n",
        b"SSH-2.0\r\n" * 3,
        b"\r\n",
        b"SSH-9.9-x\r\n",
    ],
    ids=["no-newline", "long", "nul", "newlines", "http", "tls", "ssh1", "no-dash", "empty", "ssh9"],
)
def test_t03_banner(server, keys, targets, words):
    """What is no SSH version is cut off, not waited for; who spoke so still hears what this port speaks."""
    ended = len(words) > 2
    serving = server(*(FAR_DEADLINE if ended else ("--handshake-timeout", "5")))
    with net.connect(serving.port) as sock:
        try:
            sock.sendall(words)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert said_within(sock, 40 if ended else 30).startswith(b"SSH-2.0-")
    still_serves(serving, keys, targets)


def test_t04_garbage_behind_a_version(server):
    """The session ends, but our version and KEXINIT, which came before, are not held back for more to go with them."""
    serving = server(*FAR_DEADLINE)
    with net.connect(serving.port) as sock:
        sock.sendall(b"SSH-2.0-Handmade_1\r\n" + b"\xff" * 64)
        version, rest = said_within(sock, 40).split(b"\r\n", 1)
    assert version.startswith(b"SSH-2.0-") and rest[5] == sshwire.KEXINIT


def test_t04_garbage_behind_a_question(server, keys):
    """What was asked before the session broke is answered."""
    with sshwire.Wire(server().port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        asked = bytes([sshwire.GLOBAL_REQUEST]) + sshwire.string("are-you-there@example.com") + b"\1"
        wire.raw(wire.pack(asked) + b"\xff" * 64)
        wire.expect(sshwire.REQUEST_FAILURE)
        with pytest.raises(sshwire.Closed):
            wire.recv()


@pytest.mark.parametrize("length", [0, 1, 5, 262144, 262145, 2**31, 2**32 - 1])
@pytest.mark.parametrize("moment", ["first", "after-kexinit"])
def test_t04_packet_length(server, keys, targets, length, moment):
    """A length that cannot be: the session ends at once, and no memory is taken for it."""
    serving = server(*FAR_DEADLINE)
    before = serving.memory()
    wire = sshwire.Wire(serving.port, start=False, timeout=60)
    with wire:
        wire.hello()
        if moment == "after-kexinit":
            wire.send(wire.kexinit())
        start = time.monotonic()
        try:
            wire.raw(sshwire.u32(length) + b"\xff" * min(length + 64, 300000))
            wire.wait_closed()
        except sshwire.Closed:
            pass
        assert time.monotonic() - start < scaled(40)
    assert serving.memory() - before < (64 << 20)
    still_serves(serving, keys, targets)


@pytest.mark.parametrize("pad", [0, 3, 255])
def test_t04_padding(server, keys, targets, pad):
    serving = server(*FAR_DEADLINE)
    with sshwire.Wire(serving.port, start=False, timeout=60) as wire:
        wire.hello()
        start = time.monotonic()
        wire.raw(struct.pack(">IB", 12, pad) + b"\x14" + b"p" * 10)
        wire.wait_closed()
        assert time.monotonic() - start < scaled(40)
    still_serves(serving, keys, targets)


@pytest.mark.parametrize("kex", ["diffie-hellman-group18-sha512", "diffie-hellman-group-exchange-sha256", "diffie-hellman-group14-sha256"])
def test_t05_dear_key_exchanges_are_not_offered(server, kex):
    serving = server()
    with sshwire.Wire(serving.port, start=False) as wire:
        wire.hello()
        wire.send(wire.kexinit(kex=kex))
        wire.wait_closed()


def offers(serving):
    with sshwire.Wire(serving.port, start=False) as wire:
        wire.hello()
        fields = sshwire.Reader(wire.packet()[17:])
        return [fields.string().decode().split(",") for _ in range(8)]


def test_t05_what_is_offered(server):
    """curve25519 (nistp256 for old peers), AEAD first, no compression, Ed25519 alone."""
    kex, host_key, cipher, _, _, _, compress, decompress = offers(server())
    allowed = {"curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ext-info-s", "kex-strict-s-v00@openssh.com"}
    assert set(kex) <= allowed and kex[0].startswith("curve25519"), kex
    assert "kex-strict-s-v00@openssh.com" in kex
    assert host_key == ["ssh-ed25519"]
    assert "poly1305" in cipher[0] or "gcm" in cipher[0]
    assert not any("cbc" in name or "3des" in name for name in cipher)
    assert compress == decompress == ["none"]


def test_t05_a_handshake_is_cheap(server, sanitized):
    if sanitized:
        pytest.skip("CPU is measured in a plain build")
    serving = server()
    sshwire.Wire(serving.port).close()
    batches = []
    for _ in range(10):
        before = cpu_seconds(serving.pid)
        for _ in range(20):
            sshwire.Wire(serving.port).close()
        batches.append((cpu_seconds(serving.pid) - before) / 20)
    each = min(batches)  # what a host takes from a virtual machine is in the others
    assert each <= 0.002, f"{each * 1000:.2f} ms a handshake"


@pytest.mark.parametrize("step", ["version", "kexinit", "partial", "ecdh"])
def test_t06_half_a_handshake(server, keys, targets, step):
    """A handshake that stops is cut at the deadline, wherever it stops."""
    serving = server("--handshake-timeout", "2")
    with sshwire.Wire(serving.port, start=False, timeout=20) as wire:
        try:
            wire.hello()
            if step == "kexinit":
                wire.send(wire.kexinit())
            elif step == "partial":
                wire.raw(wire.pack(wire.kexinit())[:100])
            elif step == "ecdh":
                wire.send(wire.kexinit())
                wire.send(bytes([sshwire.ECDH_INIT]) + sshwire.string(b"\x09" + os.urandom(31)))
            wire.fill()
            while True:
                wire.fill()
        except sshwire.Closed:
            pass
    still_serves(serving, keys, targets)


def test_t06_silence_after_the_key_exchange(server):
    """Encrypted, but not authenticated: the deadline covers it too."""
    serving = server("--handshake-timeout", "4")

    def cut():
        """A key exchange that the machine was too slow for does not count."""
        with contextlib.suppress(sshwire.Closed), sshwire.Wire(serving.port) as wire:
            wire.service()
            wire.wait_closed()
            return True

    wait_until(cut, 20, "a session to be cut behind its key exchange")


def test_t06_strict_key_exchange(server):
    """IGNORE inside the first key exchange breaks strict KEX (the Terrapin attack begins so)."""
    serving = server("--handshake-timeout", "10")
    with sshwire.Wire(serving.port, start=False) as wire:
        wire.hello()
        with pytest.raises(sshwire.Closed):
            wire.exchange_keys(between=[bytes([sshwire.IGNORE]) + sshwire.string("x")])
            wire.service()


def test_t06_wrong_guess(server, keys, targets):
    """first_kex_packet_follows with a guess that is wrong: the guessed packet is thrown away."""
    serving = server("--handshake-timeout", "20")
    key = sshwire.load_key(keys.path("user"))
    with sshwire.Wire(serving.port, start=False) as wire:
        wire.hello()
        ours = wire.kexinit(guess=True, kex="ecdh-sha2-nistp521,curve25519-sha256")
        try:
            wire.exchange_keys(ours=ours, between=[bytes([sshwire.ECDH_INIT]) + sshwire.string(b"\4" + b"g" * 132)])
            wire.login(key)
        except sshwire.Closed:
            pass  # ended: as good as understood
    still_serves(serving, keys, targets)


@pytest.mark.parametrize("public", [b"", b"\0" * 32, b"\x01" + b"\0" * 31, b"x" * 31, b"x" * 33, b"x" * 30000])
def test_t06_public_keys_that_cannot_be(server, keys, targets, public):
    serving = server("--handshake-timeout", "20")
    with sshwire.Wire(serving.port, start=False) as wire:
        wire.hello()
        wire.send(wire.kexinit())
        wire.send(bytes([sshwire.ECDH_INIT]) + sshwire.string(public))
        wire.wait_closed()
    still_serves(serving, keys, targets)


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 50, 80, 90, 94, 97, 192, 255])
def test_t06_messages_out_of_order(server, keys, targets, kind):
    """A message before its time ends the session or is ignored until the deadline; it opens nothing."""
    serving = server("--handshake-timeout", "2")
    with sshwire.Wire(serving.port, start=False) as wire:
        try:
            wire.hello()
            wire.send(bytes([kind]) + sshwire.string("x") * 8)
            wire.send(wire.kexinit())
            wire.wait_closed()
        except sshwire.Closed:
            pass
    still_serves(serving, keys, targets)


def test_t06_channel_before_authentication(server, targets):
    serving = server("--handshake-timeout", "20")
    before = targets.stat("accepted", "echo")
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        wire.open_request(1, "127.0.0.1", targets.echo)
        try:
            while wire.recv()[0] != sshwire.OPEN_CONFIRMATION:
                pass
            raise AssertionError("a channel without authentication")
        except sshwire.Closed:
            pass
    assert targets.stat("accepted", "echo") == before


def test_t02_connection_flood(server, keys, targets):
    """Above max_startups new connections are dropped; sessions that are up notice nothing."""
    serving = server("--max-startups", "5:100:5")
    with sshwire.Wire(serving.port) as wire:
        channel, _ = wire.login(sshwire.load_key(keys.path("user"))).open_channel(1, "127.0.0.1", targets.echo)
        socks = []
        times = []
        for _ in range(100):
            socks.append(net.connect(serving.port))
            start = time.monotonic()
            wire.data(channel, b"ping")
            assert wire.read(4) == b"ping"
            times.append(time.monotonic() - start)
        held = 0
        for sock in socks:
            sock.settimeout(scaled(20))
            try:
                held += sock.recv(4) == b"SSH-"
            except ConnectionResetError:
                pass
        assert held == 5
        assert sorted(times)[75] < scaled(0.2)
        for sock in socks:
            sock.close()
    wait_until(lambda: len(serving.lines("connection closed")) >= 6, 10, "the connections to be gone")
    still_serves(serving, keys, targets)


def test_t02_random_early_drop(server):
    """start:rate:full as OpenSSH has it: between start and full some are dropped and some are not."""
    serving = server("--max-startups", "10:50:200")
    socks = [net.connect(serving.port) for _ in range(100)]
    held = 0
    for sock in socks:
        sock.settimeout(scaled(20))
        try:
            held += sock.recv(4) == b"SSH-"
        except ConnectionResetError:
            pass
    for sock in socks:
        sock.close()
    assert 10 < held < 95, f"{held} of 100 were let in"


def test_connections_an_address(server, keys):
    serving = server("--max-connections-per-ip", "3")
    key = sshwire.load_key(keys.path("user"))
    wires = [sshwire.Wire(serving.port).login(key) for _ in range(3)]
    with net.connect(serving.port) as sock:
        closed_within(sock, 30)
    wires.pop().close()
    wait_until(lambda: len(serving.lines("connection closed")) >= 1, 5, "the connection to be gone")

    def again():
        try:
            with sshwire.Wire(serving.port) as wire:
                wire.login(key)
            return True
        except sshwire.Closed:
            return False

    wait_until(again, 5, "a place for this address")
    assert all(wire.is_alive() for wire in wires)
    for wire in wires:
        wire.close()


def test_sessions_in_all(server, keys):
    serving = server("--max-sessions", "2")
    key = sshwire.load_key(keys.path("user"))
    wires = [sshwire.Wire(serving.port).login(key) for _ in range(2)]
    with pytest.raises((sshwire.Closed, PermissionError)):
        sshwire.Wire(serving.port).login(key)
    assert all(wire.is_alive() for wire in wires)
    for wire in wires:
        wire.close()


def test_log_of_a_connection(server, ssh, targets, keys):
    """The exact lines that fail2ban and people read; nothing of where it went."""
    serving = server()
    ssh.run(serving, "-W", f"127.0.0.1:{targets.sink}", data=b"x")
    ssh.run(serving, "-W", f"127.0.0.1:{targets.sink}", identity="stranger", user="root")
    wait_until(lambda: len(serving.lines("connection closed")) == 2, 10, "two closed connections")
    log = serving.log()
    assert serving.lines('level=info msg="connection opened" remote_addr=127.0.0.1 transport=tcp')
    print_ = keys.fingerprint("user")
    assert serving.lines(f'level=info msg="auth attempt" remote_addr=127.0.0.1 user=tester key_fingerprint={print_} result=accept')
    print_ = keys.fingerprint("stranger")
    assert serving.lines(f'level=info msg="auth attempt" remote_addr=127.0.0.1 user=root key_fingerprint={print_} result=reject')
    assert serving.lines('level=info msg="connection closed" remote_addr=127.0.0.1 duration=')
    assert not re.search(rf"(?<!\d){targets.sink}(?!\d)", log), "where a channel goes is never logged"


def test_log_json(server):
    import json

    serving = server("--log-format", "json", wait=False)
    serving.wait_log(r'"msg": ?"listening"')
    lines = [json.loads(line) for line in serving.log().splitlines() if line]
    port = next(int(line["address"].rsplit(":", 1)[1]) for line in lines if line.get("msg") == "listening")
    with socket.create_connection(("127.0.0.1", port)):
        serving.wait_log("connection opened")
    serving.wait_log("connection closed")
    lines = [json.loads(line) for line in serving.log().splitlines() if line]
    assert any(line["msg"] == "connection opened" and line["remote_addr"] == "127.0.0.1" for line in lines)


def come(port, address, count):
    """Connections from this address, of the 127.0.0.0/8 that is all here."""
    return [socket.create_connection(("127.0.0.1", port), scaled(20), (address, 0)) for _ in range(count)]


def test_t05_a_flood_waits_its_turn(server, keys, targets):
    """More connections than handshakes a second: the others wait, a session that is there is served, all get through."""
    serving = server("--max-handshakes", "2", "--max-startups", "1000:30:1000")
    with sshwire.Wire(serving.port).login(sshwire.load_key(keys.path("user"))) as wire:
        socks = [net.connect(serving.port) for _ in range(30)]
        wait_until(lambda: serving.call("status")["waiting"] > 0, 10, "some to wait")
        assert len(serving.lines("connection opened")) < 31
        assert serving.call("listener.list")["listeners"][0]["state"] == "open"
        channel, _ = wire.open_channel(0, "127.0.0.1", targets.echo)
        wire.data(channel, b"beside it")
        assert wire.read(9) == b"beside it"
        for sock in socks:
            assert net.recv_exact(sock, 8) == b"SSH-2.0-"
            sock.close()
    wait_until(lambda: serving.metric("alknet_links_waiting") == 0, 10, "nobody to wait")
    assert serving.call("status")["links_refused"] == 0


def test_t05_sources_take_turns(server, keys, targets):
    """Who floods waits behind himself: one who comes later from elsewhere is served before the flood's second link, or its third."""
    serving = server("--max-handshakes", "1", "--max-startups", "1000:30:1000", "--handshake-timeout", "60s")
    flood = come(serving.port, "127.0.9.1", 60)
    wait_until(lambda: serving.call("status")["waiting"] >= 30, 10, "the flood to wait")
    with sshwire.Wire(serving.port).login(sshwire.load_key(keys.path("user"))) as wire:
        assert serving.call("status")["waiting"] >= 10, "the login waited behind the flood"
        channel, _ = wire.open_channel(0, "127.0.0.1", targets.echo)
        wire.data(channel, b"in between")
        assert wire.read(10) == b"in between"
        for sock in flood:
            sock.close()
        wait_until(lambda: serving.call("status")["startups"] == 0 and serving.call("status")["waiting"] == 0, 20, "those who left to be forgotten")
    assert serving.call("status")["links_refused"] >= 10, "a peer that closed while it waited costs no handshake"


def test_t05_more_than_can_wait(server, keys, targets):
    """When too many wait, those of the source that has most are given up, and nobody else's."""
    serving = server("--max-handshakes", "1", "--max-startups", "1000:30:1000", "--handshake-timeout", "60s")
    few = []
    flood = come(serving.port, "127.0.9.1", 20)
    wait_until(lambda: serving.call("status")["waiting"] >= 10, 10, "the flood to wait")
    few += come(serving.port, "127.0.9.2", 3)
    flood += come(serving.port, "127.0.9.1", 100)
    wait_until(lambda: serving.call("status")["links_refused"] >= 30, 20, "some to be given up")
    assert serving.call("status")["waiting"] <= 64
    serving.wait_log(r'msg="connection refused" remote_addr=127\.0\.9\.1 reason=max_handshakes')
    for sock in few:
        sock.settimeout(scaled(20))
        assert net.recv_exact(sock, 8) == b"SSH-2.0-"
    for sock in flood + few:
        sock.close()
    still_serves(serving, keys, targets)


def test_t05_limits_hold_for_those_who_wait(server):
    """max_connections_per_ip counts who waits, and max_startups refuses at once who would be refused for certain."""
    serving = server("--max-handshakes", "2", "--max-connections-per-ip", "5", "--max-startups", "7:100:7")
    socks = come(serving.port, "127.0.9.1", 12)
    wait_until(lambda: serving.call("status")["links_refused"] == 7, 10, "seven to be refused")
    for address in ("127.0.9.2", "127.0.9.3"):
        socks += come(serving.port, address, 5)
    wait_until(lambda: serving.call("status")["waiting"] == 0, 20, "all to have had their turn")
    assert serving.call("status")["startups"] <= 14 and serving.call("status")["links_refused"] > 7
    for sock in socks:
        sock.close()
    wait_until(lambda: serving.call("status")["links"] == 0, 20, "all to be forgotten")


@pytest.mark.parametrize("end", ["drain", "shutdown"])
def test_who_waits_when_the_server_leaves(server, end):
    """Their connections are closed at once: no turn of theirs will come."""
    serving = server("--max-handshakes", "1", "--max-startups", "1000:30:1000")
    socks = come(serving.port, "127.0.9.1", 40)
    wait_until(lambda: serving.call("status")["waiting"] >= 10, 10, "the others to wait")
    serving.call(end)
    closed = [len(said_within(sock, 40)) for sock in socks[20:]]
    assert closed.count(0) >= 5, closed
    for sock in socks:
        sock.close()
    assert serving.wait(20) == 0
