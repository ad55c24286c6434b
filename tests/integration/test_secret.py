# SPDX-License-Identifier: MIT OR Apache-2.0
"""The secret service: its commands, both of its ports, its scopes, and what it leaves in memory (THREATS 47)."""

import base64
import hashlib
import io
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from harness import crypto, procs, sshwire
from harness.buswire import Peer, frame
from harness.configured import Configured
from harness.peek import found_in
from harness.waiting import wait_until

pytestmark = pytest.mark.part("secret")

PHRASE = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PASSPHRASE = "na\u00efve \u2167"
NFKD = "nai\u0308ve VIII"
SEED = hashlib.pbkdf2_hmac("sha512", PHRASE.encode(), b"mnemonic" + NFKD.encode(), 2048)

POLICY = """return {
  on_auth = function(ask) return "allow", { id = ask.user, scopes = SCOPES[ask.user] } end,
}"""
SCOPES = {"all": ["secret:*"], "reader": ["secret:DeriveEd25519", "secret:Status"], "nobody": [], "other": ["bus:read"]}


def lua_scopes():
    return "local SCOPES = {" + ", ".join(
        f"{who} = {{{', '.join(json.dumps(s) for s in scopes)}}}" for who, scopes in SCOPES.items()) + "}\n"


def slip10(path):
    """An independent SLIP-0010."""
    import hmac
    whole = hmac.new(b"ed25519 seed", SEED, "sha512").digest()
    for part in path.split("/")[1:]:
        index = int(part.rstrip("'")) | 1 << 31
        whole = hmac.new(whole[32:], b"\0" + whole[:32] + struct.pack(">I", index), "sha512").digest()
    return whole[:32]


def leb(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return leb(len(value)) + value


class Stream:
    """What comes on a channel, byte by byte."""

    def __init__(self, wire):
        self.wire, self.rest = wire, b""

    def read(self, n):
        while len(self.rest) < n:
            self.rest += self.wire.read(1)
        out, self.rest = self.rest[:n], self.rest[n:]
        return out


def unframe(read):
    """LEB128 length and that many bytes."""
    n, shift = 0, 0
    while True:
        byte = read(1)[0]
        n, shift = n | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return read(n)


class Secret:
    def __init__(self, conf, keys):
        self.conf, self.keys, self.wires, self.number = conf, keys, [], 0

    def admin(self, *words, stdin=""):
        return subprocess.run(
            [procs.alknet_admin(), "--socket", self.conf.dir / "admin.sock", *words], input=stdin, text=True,
            capture_output=True, env=procs.environment(), timeout=30)

    def unlock(self):
        self.conf.call("secret.unlock", mnemonic=PHRASE, passphrase=PASSPHRASE)

    def login(self, user="all"):
        self.wires.append(sshwire.Wire(self.conf.port).login(sshwire.load_key(self.keys.path("user")), user))
        return self.wires[-1]

    def open(self, port, user="all", wire=None):
        self.number += 1
        wire = wire or self.login(user)
        opened = wire.open_channel(self.number, "alknet-secret", port)
        return (wire, opened[0]) if opened else None

    def ask(self, request, user="all", pieces=None, eof=False):
        """Port 1: the bytes of the answer, without its length."""
        wire, channel = self.open(1, user)
        whole = request if pieces is None else b""
        for at in range(0, len(request), pieces or 1) if pieces else ():
            wire.data(channel, request[at : at + pieces])
        for at in range(0, len(whole), 16384):
            wire.data(channel, whole[at : at + 16384])
        if eof:
            wire.send(bytes([sshwire.EOF]) + sshwire.u32(channel))
        got = unframe(Stream(wire).read)
        wire.expect(sshwire.EOF)
        return got

    def one(self, request, **more):
        return self.ask(text(request), **more)


class Bus:
    """Port 0."""

    def __init__(self, wire, channel):
        self.wire, self.channel, self.stream = wire, channel, Stream(wire)

    def send(self, payload, kind="call.requested", ident="1"):
        self.raw(json.dumps({"type": kind, "id": ident, "payload": payload}).encode())

    def raw(self, body):
        self.wire.data(self.channel, struct.pack(">I", len(body)) + body)

    def read(self):
        return json.loads(self.stream.read(struct.unpack(">I", self.stream.read(4))[0]))

    def call(self, operation, **given):
        self.send({"operationId": f"/secret/{operation}", "input": given})
        answer = self.read()
        assert answer["id"] == "1"
        return answer["payload"].get("output") if answer["type"] == "call.responded" else answer["payload"]


@pytest.fixture
def secret(keys, tmp_path, running_programs):
    if not os.path.exists(os.path.join(procs.plugin_dir(), "secret.so")):
        pytest.skip("built without the secret service")
    made = []

    def start(**options):
        conf = Configured(keys, tmp_path, running_programs, policy=lua_scopes() + POLICY, **options)
        made.append(Secret(conf, keys))
        return made[-1]

    yield start
    for one in made:
        for wire in one.wires:
            wire.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_binary(secret, workers):
    one = secret(workers=workers)
    derive = b"\0" + text("m/74'/0'/0'/0'")
    assert one.one(derive) == b"\1\0"
    assert one.one(b"\7" + text("legal nonsense")) == b"\1\2" + text("word 2 is not in the English list of BIP-39")
    one.unlock()
    key = crypto.Ed25519(slip10("m/74'/0'/0'/0'"))
    good = b"\0\0\x20" + slip10("m/74'/0'/0'/0'") + b"\x20" + key.public
    assert one.one(derive) == good
    assert one.one(derive, pieces=1) == good
    assert one.one(b"\1" + text("m/7'")) == b"\0\1\x20" + slip10("m/7'") + b"\0"
    ethereum = one.one(b"\2" + text("m/44'/60'/0'/0/0"))
    assert (ethereum[:3], ethereum[35], len(ethereum)) == (b"\0\2\x20", 33, 69)
    password = one.one(b"\3" + text("m/74'/1'/0'/0'") + leb(300))
    assert re.fullmatch(rb"\0\xac\x02[A-Za-z0-9_-]{300}", password)
    assert one.one(b"\7" + text(PHRASE)) == b"\1\1"
    assert one.one(b"\6") == b"\0"
    assert one.one(b"\7" + text(PHRASE)) == b"\0"
    assert one.one(derive)[:3] == b"\0\0\x20"


def test_encrypt_and_rotate(secret):
    one = secret(secret={"key_version": 2})
    one.unlock()
    sealed = one.one(b"\4" + text("through") + leb(1))
    assert sealed[:2] == b"\0\1"
    assert one.one(b"\5" + sealed[1:]) == b"\0" + text("through")
    at, parts = 2, []
    while at < len(sealed):
        parts.append(base64.b64decode(sealed[at + 1 : at + 1 + sealed[at]], validate=True))
        at += 1 + sealed[at]
    salt, iv, data = parts
    assert (len(salt), len(iv), len(data)) == (16, 12, 7 + 16)
    # Counter mode: libcrypto from here, with the key from here.
    gcm = crypto.Gcm(slip10("m/74'/2'/0'/0'"), iv, True)
    assert gcm.seal(b"", b"through") == data
    given = {"key_version": 1, **dict(zip(("salt", "iv", "data"), (base64.b64encode(p).decode() for p in parts)))}
    again = json.loads(one.admin("secret", "reencrypt", json.dumps(given)).stdout)
    assert again["key_version"] == 2 and again["data"] != given["data"]
    bus = Bus(*one.open(0))
    assert bus.call("decrypt", **again) == {"plaintext": "through"}
    assert bus.call("reencrypt", **again)["message"].startswith("Encryption: key_version: it is 2;")
    one.conf.reload(secret={"key_version": 3})
    assert bus.call("status") == {"unlocked": True, "key_version": 3, "cached_keys": 2}
    assert bus.call("reencrypt", **again)["key_version"] == 3
    bad = {**given, "data": "A" + given["data"][1:] if given["data"][0] != "A" else "B" + given["data"][1:]}
    assert "the tag is wrong" in bus.call("decrypt", **bad)["message"]


def test_long_plaintext(secret, keys, tmp_path):
    """In many parts between the processes, through the real ssh."""
    one = secret()
    one.unlock()

    def ask(request):
        argv = procs.ssh_argv(keys, tmp_path, one.conf.port, "all", "-W", "alknet-secret:1", "127.0.0.1")
        got = subprocess.run(argv, input=text(request), capture_output=True, timeout=60)
        assert got.stdout, got.stderr
        return unframe(io.BytesIO(got.stdout).read)

    plain = os.urandom(11 << 20)
    sealed = ask(b"\4" + text(plain) + leb(1))
    assert ask(b"\5" + sealed[1:]) == b"\0" + text(plain)
    assert ask(b"\4" + text(bytes(13 << 20)) + leb(1)) == b"\1\4" + text("plaintext: it is too long for an answer of 16 MiB")


@pytest.mark.parametrize("request_, answer", [
    (leb((16 << 20) + 1), (3, "length: a request has at most 16 MiB")),
    (b"\xff" * 10, (3, "length: a request has at most 16 MiB")),
    (b"\x80\x00", (3, "length: a request has at most 16 MiB")),
    (text(b"\x08"), (3, "there is no such operation")),
    (text(b""), (3, "there is no such operation")),
    (text(b"\x06\x00"), (3, "the request is cut short, or longer than it should be")),
    (text(b"\x04\x05hi"), (4, "the request is cut short, or longer than it should be")),
    (text(b"\x07\x03hi"), (2, "the request is cut short, or longer than it should be")),
    (text(b"\0" + text("m/0")), (5, "path: part 1 is not hardened, as all parts must be for this kind of key: put ' behind it")),
    (text(b"\2" + text("m/2147483648")), (5, "path: part 1 is 2147483648 or more")),
    (text(b"\0" + text("m//0'")), (5, "path: part 1 is empty")),
    (text(b"\0" + text("m" + "/0'" * 300)), (5, "path: it has more than 255 levels")),
    (text(b"\3" + text("m") + b"\0"), (3, "length: a password has 1 to 1024 letters")),
    (text(b"\3" + text("m") + leb(1025)), (3, "length: a password has 1 to 1024 letters")),
], ids=range(14))
def test_bad_binary(secret, request_, answer):
    one = secret()
    one.unlock()
    assert one.ask(request_) == b"\1" + bytes([answer[0]]) + text(answer[1])
    assert one.conf.call("secret.status")["unlocked"]


def test_cut_short(secret):
    one = secret()
    assert one.ask(b"\x10\0", eof=True) == b"\1\3" + text("the request is cut short")
    assert one.ask(b"", eof=True) == b"\1\3" + text("the request is cut short")


def test_json(secret):
    one = secret()
    bus = Bus(*one.open(0))
    assert bus.call("status") == {"unlocked": False, "key_version": 1, "cached_keys": 0}
    assert bus.call("lock") == {"code": "UNAVAILABLE", "message": "ServiceLocked", "retryable": True}
    assert bus.call("unlock", passphrase="abandon")["message"].startswith("Mnemonic: the phrase has 1 words")
    assert bus.call("unlock", passphrase=PHRASE) == {}
    assert bus.call("unlock", passphrase=PHRASE)["message"] == "AlreadyUnlocked"
    got = bus.call("deriveEd25519", path="m/0'")
    assert (got["key_type"], got["private_key"]) == ("Ed25519", "[REDACTED]")
    assert len(base64.b64decode(got["public_key"])) == 32
    assert bus.call("deriveEncryptionKey", path="m/0'")["private_key"] == "[REDACTED]"
    assert len(base64.b64decode(bus.call("deriveEthereumKey", path="m/0")["public_key"])) == 33
    assert len(bus.call("derivePassword", path="m", length=20)["password"]) == 20
    for plain in ({"plaintext": "na\u00efve"}, {"plaintext_base64": base64.b64encode(b"\0\xff").decode()}, {"plaintext": ""}):
        assert bus.call("decrypt", **bus.call("encrypt", key_version=1, **plain)) == plain
    for wrong, code in (({"operationId": "/secret/none"}, "NOT_FOUND"), ({}, "INVALID_INPUT"), (7, "INVALID_INPUT"),
                        ({"operationId": "/secret/deriveEd25519"}, "INVALID_INPUT"),
                        ({"operationId": "/secret/status", "input": {"more": 1}}, "INVALID_INPUT"),
                        ({"operationId": "/secret/status", "deadline": 1}, "TIMEOUT")):
        bus.send(wrong)
        assert bus.read()["payload"]["code"] == code
    bus.send({}, kind="publish")
    assert bus.read()["payload"]["code"] == "INVALID_INPUT"
    for i in range(100):
        bus.send({"operationId": "/secret/status"}, ident=f"n{i}")
    assert sorted(bus.read()["id"] for _ in range(100)) == sorted(f"n{i}" for i in range(100))


def test_answers_longer_than_a_frame(secret):
    """Nobody would read such a frame: its call has an error, and the channel goes on."""
    one = secret()
    one.unlock()

    def ask(operation, **given):
        """The type and the payload of the answer, on a channel of its own: with the window that it has."""
        one.number += 1
        wire = one.wires[0] if one.wires else one.login()
        channel, window = wire.open_channel(one.number, "alknet-secret", 0)
        bus = Bus(wire, channel)
        rest = frame({"type": "call.requested", "id": "1", "payload": {"operationId": f"/secret/{operation}", "input": given}})
        while rest:
            while window == 0:
                fields = sshwire.Reader(wire.expect(sshwire.WINDOW_ADJUST)[1:])
                if fields.u32() == one.number:
                    window = fields.u32()
            n = min(len(rest), window, 16384)
            wire.data(channel, rest[:n])
            rest, window = rest[n:], window - n
        head = bus.stream.read(4)
        assert struct.unpack(">I", head)[0] <= 1 << 20
        answer = json.loads(bus.stream.read(struct.unpack(">I", head)[0]))
        assert bus.call("status")["unlocked"]
        return answer["type"], answer["payload"]

    error = "call.error", {"code": "INVALID_INPUT", "message": "the answer is longer than a frame: use port 1",
                           "retryable": False}
    assert ask("encrypt", plaintext="x" * 900_000, key_version=1) == error
    # Each \1 is six bytes of JSON. One answer has a MiB to the byte, the next would have one more.
    room = (1 << 20) - len('{"type":"call.responded","id":"1","payload":{"output":{"plaintext":""}}}')
    for more in (0, 1):
        plain = b"\1" * (room // 6) + b"x" * (room % 6 + more)
        kind, payload = ask("encrypt", plaintext_base64=base64.b64encode(plain).decode(), key_version=1)
        assert kind == "call.responded"
        answer = ask("decrypt", **payload["output"])
        assert answer == (error if more else ("call.responded", {"output": {"plaintext": plain.decode()}}))


def test_aborted_calls_count_until_they_are_answered(secret):
    """The supervisor stands still: with 16 questions before it the channel is not read, aborted or not."""
    one = secret(workers=1)
    wire, full = one.open(0)
    other = one.open(0, wire=wire)[1]
    bus = Bus(wire, full)

    def next_frame():
        # One is small, and asked for alone here: it comes in one message.
        fields = sshwire.Reader(wire.expect(sshwire.DATA)[1:])
        number = fields.u32()
        return number, json.loads(fields.string()[4:])

    bus.send({"operationId": "/secret/status"}, ident="before")
    first, answer = next_frame()
    assert answer["type"] == "call.responded"
    procs.freeze(one.conf.server.pid)
    try:
        for i in range(16):
            bus.send({"operationId": "/secret/status"}, ident=f"n{i}")
            if i < 15:
                bus.send({}, kind="call.aborted", ident=f"n{i}")
        # What the worker answers alone it answers at once. Two channels take turns: so more than one.
        bus.send({"operationId": "/secret/none"}, ident="held")
        for i in range(3):
            Bus(wire, other).send({"operationId": "/secret/none"}, ident=f"beside {i}")
            number, answer = next_frame()
            assert (answer["id"], number != first) == (f"beside {i}", True)
    finally:
        os.kill(one.conf.server.pid, signal.SIGCONT)
    assert sorted(bus.read()["id"] for _ in range(2)) == ["held", "n15"]
    # Their places are free again, and their names.
    for i in range(32):
        bus.send({"operationId": "/secret/status"}, ident=f"n{i}")
    assert sorted(bus.read()["id"] for _ in range(32)) == sorted(f"n{i}" for i in range(32))


@pytest.mark.parametrize("body", [
    b"{", b"[]", b"7", b'{"type":"a","id":"b"}', b'{"type":"a","id":7,"payload":1}', b'{"type":"","id":"","payload":1}',
    b'{"type":"a","type":"b","id":"","payload":1}', b'{"type":"a","id":"","payload":1,"more":2}', b"\xff",
    b'{"type":"a","id":"x","payload":' + b"[" * 32 + b"]" * 32 + b"}",
    b'{"type":"a","id":"x","payload":[' + b"1," * 70000 + b"1]}",
], ids=range(11))
def test_t61_bad_frames(secret, body):
    wire, channel = secret().open(0)
    bus = Bus(wire, channel)
    bus.raw(body)
    answer = bus.read()
    assert (answer["type"], answer["payload"]["code"]) == ("error", "INVALID_FRAME")
    wire.expect(sshwire.EOF)
    assert wire.is_alive()


@pytest.mark.parametrize("length", [0, (1 << 20) + 1, 0xFFFFFFFF])
def test_t60_bad_lengths(secret, length):
    wire, channel = secret().open(0)
    wire.data(channel, struct.pack(">I", length))
    assert Bus(wire, channel).read()["payload"]["code"] == "INVALID_FRAME"
    wire.expect(sshwire.EOF)


def test_scopes(secret):
    one = secret()
    one.unlock()
    assert one.open(1, "nobody") is None and one.open(0, "other") is None and one.open(2, "all") is None
    assert one.one(b"\0" + text("m/0'"), user="reader")[:2] == b"\0\0"
    assert one.one(b"\6", user="reader") == b"\1\3" + text("forbidden: the scope secret:Lock is missing")
    bus = Bus(*one.open(0, "reader"))
    assert bus.call("lock") == {"code": "FORBIDDEN", "message": "the scope secret:Lock is missing", "retryable": False}
    # Not told whether the input would do.
    assert bus.call("encrypt")["code"] == "FORBIDDEN"
    assert bus.call("status")["unlocked"]
    log = one.conf.server.log()
    assert re.search(r'msg="secret operation" operation=DeriveEd25519 identity=reader path=m/0\S* result=ok|'
                     r'operation=DeriveEd25519 identity=reader path="m/0\'" result=ok', log)
    assert re.search(r'msg="secret operation" operation=Lock identity=reader result=forbidden', log)


def test_key_for_ssh(secret, tmp_path):
    one = secret()
    one.unlock()
    out = tmp_path / "derived"
    got = one.admin("secret", "ssh-key", "--path", "m/74'/0'/1'/0'", "--out", out)
    assert got.returncode == 0, got.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    public = subprocess.run(["ssh-keygen", "-y", "-f", out], capture_output=True, text=True, check=True).stdout
    assert got.stdout == public
    assert sshwire.load_key(out).public == crypto.Ed25519(slip10("m/74'/0'/1'/0'")).public
    (tmp_path / "message").write_text("signed\n")
    subprocess.run(["ssh-keygen", "-Y", "sign", "-q", "-f", out, "-n", "test", tmp_path / "message"], check=True)
    (tmp_path / "allowed").write_text("me " + public)
    subprocess.run(["ssh-keygen", "-Y", "verify", "-f", tmp_path / "allowed", "-I", "me", "-n", "test", "-s",
                    tmp_path / "message.sig"], input=b"signed\n", check=True)
    again = one.admin("secret", "ssh-key", "--path", "m/0'", "--out", out)
    assert (again.returncode, "File exists" in again.stderr) == (1, True)


def test_openssl_verifies(secret, tmp_path):
    """The private key is what OpenSSL takes as an Ed25519 key (RFC 8410)."""
    one = secret()
    one.unlock()
    got = one.one(b"\0" + text("m/74'/0'/0'/0'"))
    der = bytes.fromhex("302e020100300506032b657004220420") + got[3:35]
    (tmp_path / "key.der").write_bytes(der)
    (tmp_path / "public.der").write_bytes(bytes.fromhex("302a300506032b6570032100") + got[36:])
    (tmp_path / "message").write_bytes(b"through")
    run = lambda *words: subprocess.run(["openssl", "pkeyutl", "-rawin", "-in", tmp_path / "message", *words], check=True)
    run("-sign", "-inkey", tmp_path / "key.der", "-keyform", "DER", "-out", tmp_path / "sig")
    run("-verify", "-pubin", "-inkey", tmp_path / "public.der", "-keyform", "DER", "-sigfile", tmp_path / "sig")


def test_admin_program(secret):
    one = secret()
    assert one.admin("secret.status", "--json").stdout.count("false") == 1
    for words in (12, 15, 18, 21, 24):
        new = one.admin("secret", "new", "--words", str(words))
        assert len(new.stdout.split()) == words
        assert one.admin("secret", "unlock", "--stdin", stdin=new.stdout).stdout == "unlocked\n"
        assert one.admin("secret", "lock").returncode == 0
    assert one.admin("secret", "new", "--words", "13").returncode == 2
    new = json.loads(one.admin("secret", "new", "12", "--json").stdout)
    assert list(new) == ["mnemonic"] and len(new["mnemonic"].split()) == 12
    assert "no arguments" in one.admin("secret", "unlock", PHRASE).stderr
    assert one.admin("secret", "unlock", "--stdin").returncode == 2
    wrong = one.admin("secret", "unlock", "--stdin", stdin="legal hunter2\n")
    assert (wrong.returncode, "word 2" in wrong.stderr, "hunter2" in wrong.stderr) == (1, True, False)
    assert one.admin("secret", "unlock", "--stdin", stdin=f"{PHRASE}\n{PASSPHRASE}\n").returncode == 0
    shown = json.loads(one.admin("secret", "derive", "--path", "m/0'", "--json").stdout)
    assert shown["public_key"] == crypto.Ed25519(slip10("m/0'")).public.hex() and "private_key" not in shown
    assert one.admin("secret", "derive", "--path", "m/0'", "--type", "password").returncode == 1
    assert one.admin("secret", "derive", "--path", "m/0'", "--type", "rsa").returncode == 1
    assert PHRASE.split()[3] not in one.conf.server.log()


def on_terminal(argv, answers):
    """What a program writes on a terminal of its own, given an answer for each prompt."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, procs.environment())
    out, deadline = b"", time.monotonic() + 20
    try:
        for prompt, answer in answers:
            while prompt not in out:
                assert time.monotonic() < deadline
                out += os.read(fd, 4096)
            os.write(fd, answer)
            out = out[out.index(prompt) + len(prompt) :]
        while True:
            out += os.read(fd, 4096)
    except OSError:
        return out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(fd)


def test_terminal(secret):
    one = secret()
    argv = [str(procs.alknet_admin()), "--socket", str(one.conf.dir / "admin.sock"), "secret"]
    shown, status = on_terminal([*argv, "unlock"], [(b"Words: ", PHRASE.encode() + b"\n"),
                                                    (b"none): ", PASSPHRASE.encode() + b"\n")])
    assert (status, b"winner" in shown, b"unlocked" in shown) == (0, False, True)
    ask = [*argv, "derive", "--path", "m/0'", "--private"]
    shown, status = on_terminal(ask, [(b"[y/N] ", b"y\n")])
    assert status == 0 and slip10("m/0'").hex().encode() in shown
    shown, status = on_terminal(ask, [(b"[y/N] ", b"\n")])
    assert status == 1 and slip10("m/0'").hex().encode() not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="reading another process's memory needs root")
@pytest.mark.parametrize("workers", [0, 1])
def test_t47_memory_after_lock(secret, workers, sanitized):
    if sanitized:
        pytest.skip("AddressSanitizer keeps what was freed")
    one = secret(workers=workers)
    server = one.conf.server
    assert one.admin("secret", "unlock", "--stdin", stdin=f"{PHRASE}\n{PASSPHRASE}\n").returncode == 0
    paths = ["m/74'/0'/0'/0'", "m/74'/0'/1'/0'", "m/74'/2'/0'/0'"]
    needles = {"seed": SEED, "half a seed": SEED[:32], "phrase": PHRASE.encode(), "passphrase": NFKD.encode(),
               "passphrase as given": PASSPHRASE.encode()}
    for path in paths:
        needles[path], needles[path + " in hex"] = slip10(path), slip10(path).hex().encode()
    bus = Bus(*one.open(0))
    for path in paths[:2]:
        bus.call("deriveEd25519", path=path)
        bus.call("deriveEthereumKey", path=path)
        one.conf.call("secret.derive", path=path, private=True)
    assert bus.call("decrypt", **bus.call("encrypt", plaintext="x", key_version=1)) == {"plaintext": "x"}
    before = found_in(server.pid, needles)
    assert {"seed", *paths} <= before, "the test sees what is there"
    assert not {"phrase", "passphrase"} & before, "only the seed is kept"
    one.conf.call("secret.lock")
    assert found_in(server.pid, needles) == set()
    for worker in server.workers():
        assert found_in(worker, needles) == set()


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="no smaps")
def test_t47_pages(secret, sanitized):
    """Locked (AddressSanitizer makes mlock do nothing), not dumped, not inherited."""
    one = secret()
    smaps = open(f"/proc/{one.conf.server.pid}/smaps").read()
    flags = [line.split()[1:] for line in smaps.splitlines() if line.startswith("VmFlags")]
    assert any({"dd", "wf", *([] if sanitized else ["lo"])} <= set(f) for f in flags)


def test_workers_come_and_go(secret):
    """A new generation and a new worker speak to the same seed."""
    one = secret(workers=2)
    one.unlock()
    one.conf.reload()
    assert one.one(b"\0" + text("m/0'"))[3:35] == slip10("m/0'")
    one.conf.alone()
    old = one.conf.server.workers()
    for worker in old:
        os.kill(worker, 9)

    def replaced():
        workers = one.conf.status()["workers"]
        return not {w["pid"] for w in workers} & set(old) and [w["state"] for w in workers] == ["ready", "ready"]

    wait_until(replaced, 20, "new workers")
    assert one.one(b"\0" + text("m/0'"))[3:35] == slip10("m/0'")


@pytest.fixture(scope="session")
def vectors():
    """Bytes by name, from the postcard crate (tests/integration/postcard)."""
    if not shutil.which("cargo"):
        pytest.skip("no cargo")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alknet-tests" / "postcard"
    made = subprocess.run(
        ["nice", "cargo", "run", "-q", "-j1", "--release", "--locked", "--target-dir", cache],
        cwd=Path(__file__).parent / "postcard", capture_output=True, text=True, timeout=300)
    if made.returncode != 0:
        pytest.skip("cargo cannot build the postcard crate here: " + made.stderr.strip().splitlines()[-1])
    return {name: bytes.fromhex(hex_) for name, hex_ in (line.split() for line in made.stdout.splitlines())}


def test_bytes_of_the_postcard_crate(secret, vectors):
    """Its requests are understood, and what the service answers is what it would have written."""
    one = secret()
    answer = lambda name: text(one.ask(vectors[name]))
    requests = ("ed25519", "encryption", "ethereum", "password", "encrypt", "encrypt_long", "decrypt", "lock")
    for name in requests:
        assert answer(name) == vectors["locked"], name
    assert answer("unlock") == text(b"\1\2" + text("word 2 is not in the English list of BIP-39"))
    one.unlock()
    assert answer("unlock") == vectors["unlocked"]
    assert text(one.one(b"\2" + text("m/"))) == vectors["path"]
    key, got = vectors["key"], answer("ethereum")
    assert (got[:4], got[36], len(got)) == (key[:4], key[36], len(key))
    assert answer("password")[:5] == vectors["bytes"][:5]
    sealed = answer("encrypt")
    assert sealed[1:4] == b"\0\1\x18"
    assert one.one(b"\5" + sealed[2:]) == b"\0" + text("hi")
    assert answer("encrypt_long")[:2] != vectors["locked"][:2]
    assert one.ask(vectors["decrypt"])[:2] == b"\1\4"
    assert answer("lock") == vectors["ok"]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_operations_are_on_the_bus_behind_their_scopes(secret, workers):
    """Issue 9.3: what port 0 does, for who speaks with alknet-control."""
    server = secret(workers=workers)
    server.unlock()

    def peer(user):
        return Peer(server.login(user))

    reader = peer("reader")
    path = "m/74'/0'/0'/0'"
    answer = reader.call("/secret/deriveEd25519", {"path": path})
    assert answer["type"] == "call.responded", answer
    assert answer["payload"]["output"]["key_type"] == "Ed25519"
    assert answer["payload"]["output"]["private_key"] == "[REDACTED]"
    # The same bytes as on port 0.
    public = answer["payload"]["output"]["public_key"]
    wire, channel = server.open(0, "reader")
    wire.data(channel, frame({"type": "call.requested", "id": "1",
                              "payload": {"operationId": "/secret/deriveEd25519", "input": {"path": path}}}))
    stream = Stream(wire)
    got = json.loads(stream.read(struct.unpack(">I", stream.read(4))[0]))
    assert got["payload"]["output"]["public_key"] == public
    assert reader.call("/secret/status")["payload"]["output"]["unlocked"] is True
    assert reader.call("/secret/lock")["payload"]["code"] == "FORBIDDEN"
    assert reader.call("/secret/deriveEd25519", {"path": 7})["payload"]["code"] == "INVALID_INPUT"
    assert reader.call("/secret/deriveEd25519", {"path": "m/0"})["payload"]["code"] == "INVALID_INPUT"
    assert reader.call("/secret/nothing")["payload"]["code"] == "NOT_FOUND"
    listed = reader.get("/services/list", {"prefix": "/secret/"})["operations"]
    assert sorted(one["name"] for one in listed) == ["/secret/deriveEd25519", "/secret/status"]
    for user in ("nobody", "other"):
        one = peer(user)
        for operation in ("deriveEd25519", "deriveEncryptionKey", "deriveEthereumKey", "derivePassword", "encrypt", "decrypt",
                          "lock", "unlock", "reencrypt", "status"):
            assert one.call(f"/secret/{operation}")["payload"]["code"] == "FORBIDDEN"
        assert one.get("/services/list", {"prefix": "/secret/"})["operations"] == []
    everything = peer("all")
    sealed = everything.call("/secret/encrypt", {"plaintext": "hi", "key_version": 1})["payload"]["output"]
    assert everything.call("/secret/decrypt", sealed)["payload"]["output"] == {"plaintext": "hi"}
    # Larger than what goes without the budget.
    big = "x" * 300_000
    sealed = everything.call("/secret/encrypt", {"plaintext": big, "key_version": 1})["payload"]["output"]
    assert everything.call("/secret/decrypt", sealed)["payload"]["output"] == {"plaintext": big}
    assert everything.call("/secret/lock")["type"] == "call.responded"
    assert reader.call("/secret/deriveEd25519", {"path": path})["payload"]["code"] == "UNAVAILABLE"
    assert everything.call("/secret/unlock", {"passphrase": PHRASE})["type"] == "call.responded"
    assert everything.call("/secret/unlock", {"passphrase": PHRASE})["payload"]["code"] == "INVALID_INPUT"
    log = server.conf.server.log()
    assert "operation=DeriveEd25519" in log and "result=forbidden" in log
    assert "legal winner" not in log and public not in log
