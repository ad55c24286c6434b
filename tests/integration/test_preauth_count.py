# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is counted of a client that is not logged in, whatever comes together in one read (THREATS 6 and 8)."""

import pytest

from conftest import USER
from harness import sshwire
from harness.waiting import wait_until


class Burst(sshwire.Wire):
    """What is sent from NEWKEYS on is held back until `flush`, so that it comes in one read."""

    held = None

    def send(self, payload):
        if payload == bytes([sshwire.NEWKEYS]):
            self.held = b""
        if self.held is None:
            super().send(payload)
        else:
            self.held += self.pack(payload)

    def flush(self):
        held, self.held = self.held, None
        self.raw(held)


def ask_service(wire):
    wire.send(bytes([sshwire.SERVICE_REQUEST]) + sshwire.string("ssh-userauth"))


def spoil(wire, key, count):
    for _ in range(count):
        wire.auth_request(USER, key, spoil=True)


def test_t08_bad_signatures_behind_newkeys(server, keys):
    """Requests that come in one read with the end of the key exchange are counted as those that come after it."""
    serving = server("--handshake-timeout", "600")
    with Burst(serving.port) as wire:
        ask_service(wire)
        spoil(wire, sshwire.load_key(keys.path("user")), 12)
        wire.flush()
        wire.wait_closed()
    wait_until(lambda: serving.lines("auth attempt", "result=reject"), 10, "the attempts to be told of")
    assert not serving.lines("result=accept")


def test_t08_as_many_attempts_behind_newkeys(server, keys):
    """A request for the service that comes with NEWKEYS is one, not one more attempt or one less."""
    serving = server("--max-auth-attempts", "3", "--handshake-timeout", "600")
    key = sshwire.load_key(keys.path("user"))
    with Burst(serving.port) as wire:
        ask_service(wire)
        spoil(wire, key, 1)
        wire.flush()
        wire.expect(sshwire.SERVICE_ACCEPT)
        spoil(wire, key, 2)
        wire.auth_request(USER, key, probe=True)
        wire.expect(sshwire.AUTH_PK_OK)
        spoil(wire, key, 1)
        wire.wait_closed()
    with Burst(serving.port) as wire:
        ask_service(wire)
        wire.flush()
        wire.expect(sshwire.SERVICE_ACCEPT)
        spoil(wire, key, 3)
        wire.auth_request(USER, key)
        wire.expect(sshwire.AUTH_SUCCESS)


def test_t08_the_service_is_asked_for_again(server, keys):
    """As Paramiko does before each key: no attempt, and no room for more of them either."""
    serving = server("--max-auth-attempts", "3", "--handshake-timeout", "600")
    key = sshwire.load_key(keys.path("user"))
    for last in (True, False):
        with Burst(serving.port) as wire:
            for _ in range(20):
                ask_service(wire)
            spoil(wire, key, 3 if last else 4)
            wire.flush()
            if not last:
                wire.wait_closed()
                continue
            for _ in range(20):
                wire.expect(sshwire.SERVICE_ACCEPT)
            wire.auth_request(USER, key)
            wire.expect(sshwire.AUTH_SUCCESS)


UNKNOWN = bytes([192]) + bytes(8)


def ignored(size):
    return bytes([sshwire.IGNORE]) + sshwire.string(bytes(size))


@pytest.mark.parametrize("moment", ["first", "after-kexinit"])
@pytest.mark.parametrize("payloads, word", [([UNKNOWN] * 65, "packets"), ([ignored(200000)] * 2, "bytes")], ids=["packets", "bytes"])
def test_t06_much_before_the_keys(server, moment, payloads, word):
    """Each is answered or forgotten, and none is part of a key exchange: it is not waited for the end of that."""
    serving = server("--log-level", "debug", "--handshake-timeout", "600")
    with sshwire.Wire(serving.port, start=False) as wire:
        wire.hello()
        if moment == "after-kexinit":
            wire.send(wire.kexinit(strict=False))
        try:
            for payload in payloads:
                wire.send(payload)
            wire.wait_closed()
        except sshwire.Closed:
            pass
    serving.wait_log(f'msg="session ended" .*reason="too many {word} before the keys were exchanged"')


def test_t06_chatter_before_the_keys(server, keys):
    """Which a client may make, and some do."""
    with sshwire.Wire(server().port, start=False) as wire:
        wire.hello()
        wire.exchange_keys(ours=wire.kexinit(strict=False), between=[ignored(30)] * 30 + [UNKNOWN] * 10)
        wire.login(sshwire.load_key(keys.path("user")))
