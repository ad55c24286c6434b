# SPDX-License-Identifier: MIT OR Apache-2.0
"""An SSH client made by hand, to say what a well-behaved client never says.

curve25519-sha256, ssh-ed25519, aes256-gcm@openssh.com, strict key exchange. Nothing happens by itself
but the answering of a key exchange that the server begins. RFC 4253, 4252, 4254 name the messages."""

import base64
import hashlib
import os
import select
import socket
import struct
import time

from . import crypto
from .waiting import scaled

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 1, 2, 3, 4, 5, 6, 7
KEXINIT, NEWKEYS, ECDH_INIT, ECDH_REPLY = 20, 21, 30, 31
AUTH_REQUEST, AUTH_FAILURE, AUTH_SUCCESS, AUTH_BANNER, AUTH_PK_OK = 50, 51, 52, 53, 60
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, OPEN_CONFIRMATION, OPEN_FAILURE, WINDOW_ADJUST, DATA = 90, 91, 92, 93, 94
EXTENDED_DATA, EOF, CLOSE, CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 95, 96, 97, 98, 99, 100


class Closed(Exception):
    """The server ended the session; `why` has its last words."""

    def __init__(self, why=""):
        super().__init__(why)
        self.why = why


def string(data):
    data = data.encode() if isinstance(data, str) else bytes(data)
    return struct.pack(">I", len(data)) + data


def mpint(data):
    data = data.lstrip(b"\0")
    if data and data[0] & 0x80:
        data = b"\0" + data
    return string(data)


def u32(n):
    return struct.pack(">I", n)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        piece = self.data[self.at : self.at + n]
        if len(piece) < n:
            raise ValueError("short packet")
        self.at += n
        return piece

    def byte(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def string(self):
        return self.take(self.u32())


def load_key(path):
    """The key pair in an unencrypted OpenSSH file."""
    lines = open(path, encoding="ascii").read().split("\n")
    raw = Reader(base64.b64decode("".join(line for line in lines if "-----" not in line)))
    raw.take(15)
    for _ in range(3):
        raw.string()
    raw.u32()
    raw.string()
    secret = Reader(raw.string())
    secret.u32(), secret.u32()
    if secret.string() != b"ssh-ed25519":
        raise ValueError(f"{path}: not an Ed25519 key")
    secret.string()
    return crypto.Ed25519(secret.string()[:32])


class Wire:
    """One connection. Everything raises Closed when the server ends it."""

    def __init__(self, port, host="127.0.0.1", timeout=30, start=True, receive_buffer=0):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.sock.settimeout(scaled(timeout))
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.buffer = bytearray()
        self.seal = self.open_ = None
        self.session_id = None
        self.version = b"SSH-2.0-Handmade_1"
        self.peer_version = b""
        self.debug = []
        if start:
            self.start()

    def start(self):
        try:
            self.hello()
            self.exchange_keys()
        except BaseException:
            self.close()  # who has no Wire cannot
            raise

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # The transport.

    def hello(self):
        self.raw(self.version + b"\r\n")
        while not self.peer_version.startswith(b"SSH-"):
            self.peer_version = self.line().rstrip(b"\r\n")

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(str(error)) from error

    def fill(self):
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError as error:
            raise Closed("reset") from error
        except TimeoutError as error:
            raise AssertionError(f"the server said nothing for {scaled(self.timeout):g} s") from error
        if not data:
            raise Closed("end of stream")
        self.buffer += data

    def line(self):
        while b"\n" not in self.buffer:
            self.fill()
        end = self.buffer.index(b"\n") + 1
        out = bytes(self.buffer[:end])
        del self.buffer[:end]
        return out

    def take(self, n):
        while len(self.buffer) < n:
            self.fill()
        out = bytes(self.buffer[:n])
        del self.buffer[:n]
        return out

    def send(self, payload):
        self.raw(self.pack(payload))

    def pack(self, payload):
        size = 16 if self.seal else 8
        head = 1 if self.seal else 5
        pad = size - (head + len(payload)) % size
        if pad < 4:
            pad += size
        body = bytes([pad]) + payload + os.urandom(pad)
        length = u32(len(body))
        return self.seal.seal(length, body) if self.seal else length + body

    def packet(self):
        head = self.take(4)
        n = struct.unpack(">I", head)[0]
        if n > 1 << 20:
            raise AssertionError(f"the server sent a packet of {n} bytes")
        body = self.take(n)
        if self.open_:
            body = self.open_.open(head, body, self.take(16))
        return body[1 : n - body[0]]

    def step(self):
        """One packet: the message, or None when it was chatter. A key exchange of the server's is answered here."""
        payload = self.packet()
        kind = payload[0]
        if kind == DISCONNECT:
            fields = Reader(payload[1:])
            fields.u32()
            raise Closed(fields.string().decode("utf-8", "replace"))
        if kind == DEBUG:
            self.debug.append(Reader(payload[2:]).string().decode("utf-8", "replace"))
        elif kind == KEXINIT and self.session_id:
            self.exchange_keys(payload)
        elif kind not in (IGNORE, EXT_INFO, AUTH_BANNER):
            return payload
        return None

    def recv(self):
        """The next message that is not chatter."""
        while True:
            payload = self.step()
            if payload is not None:
                return payload

    def expect(self, *kinds):
        """The next message of these kinds; others are dropped, the server's keepalives answered."""
        deadline = time.monotonic() + scaled(self.timeout)
        while time.monotonic() < deadline:
            payload = self.recv()
            if payload[0] in kinds:
                return payload
            self.chatter(payload)
        raise AssertionError(f"no message of {kinds} came")

    def chatter(self, payload):
        if payload[0] == GLOBAL_REQUEST:
            fields = Reader(payload[1:])
            fields.string()
            if fields.byte():
                self.send(bytes([REQUEST_FAILURE]))

    def pump(self, seconds=0):
        """Answer what has come already; for sessions that idle."""
        while self.buffer or select.select([self.sock], [], [], seconds)[0]:
            payload = self.step()
            if payload is not None:
                self.chatter(payload)

    def kexinit(self, strict=True, guess=False, kex="curve25519-sha256", cipher="aes256-gcm@openssh.com"):
        lists = [kex + (",kex-strict-c-v00@openssh.com" if strict else ""), "ssh-ed25519"]
        lists += [cipher] * 2 + ["hmac-sha2-256-etm@openssh.com,hmac-sha2-256"] * 2 + ["none"] * 2 + [""] * 2
        return bytes([KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + bytes([guess]) + u32(0)

    def exchange_keys(self, theirs=None, ours=None, between=()):
        """A whole key exchange; `between` are payloads to slip in before ECDH_INIT."""
        ours = ours or self.kexinit()
        self.send(ours)
        if theirs is None:
            theirs = self.packet()
            while theirs[0] != KEXINIT:
                self.chatter(theirs)
                theirs = self.packet()
        for payload in between:
            self.send(payload)
        key = crypto.X25519(os.urandom(32))
        self.send(bytes([ECDH_INIT]) + string(key.public))
        reply = self.packet()
        while reply[0] != ECDH_REPLY:
            if reply[0] == DISCONNECT:
                raise Closed(Reader(reply[5:]).string().decode("utf-8", "replace"))
            reply = self.packet()
        fields = Reader(reply[1:])
        self.host_key, theirs_public, _ = fields.string(), fields.string(), fields.string()
        shared = mpint(key.shared(theirs_public))
        text = string(self.version) + string(self.peer_version) + string(ours) + string(theirs)
        text += string(self.host_key) + string(key.public) + string(theirs_public) + shared
        digest = hashlib.sha256(text).digest()
        self.session_id = self.session_id or digest

        def derive(letter):
            return hashlib.sha256(shared + digest + letter + self.session_id).digest()

        self.send(bytes([NEWKEYS]))
        self.seal = crypto.Gcm(derive(b"C"), derive(b"A"), True)
        while (payload := self.packet())[0] != NEWKEYS:
            self.chatter(payload)
        self.open_ = crypto.Gcm(derive(b"D"), derive(b"B"), False)

    # Authentication.

    def service(self):
        self.send(bytes([SERVICE_REQUEST]) + string("ssh-userauth"))
        self.expect(SERVICE_ACCEPT)

    def auth_request(self, user, key, spoil=False, probe=False, algorithm="ssh-ed25519", blob=None):
        """`blob` is a certificate for the key, or whatever else is to be offered."""
        blob = blob or string("ssh-ed25519") + string(key.public)
        head = bytes([AUTH_REQUEST]) + string(user) + string("ssh-connection") + string("publickey")
        head += bytes([not probe]) + string(algorithm) + string(blob)
        if not probe:
            proof = bytearray(key.sign(string(self.session_id) + head))
            if spoil:
                proof[5] ^= 1
            head += string(string("ssh-ed25519") + string(proof))
        self.send(head)

    def login(self, key, user="tester"):
        self.service()
        self.auth_request(user, key)
        if self.expect(AUTH_SUCCESS, AUTH_FAILURE)[0] != AUTH_SUCCESS:
            raise PermissionError("the server refused the key")
        return self

    # Channels.

    def open_request(self, number, host, port, window=1 << 21, packet=32768, kind="direct-tcpip", more=b""):
        payload = bytes([CHANNEL_OPEN]) + string(kind) + u32(number) + u32(window) + u32(packet) + more
        if kind == "direct-tcpip":
            payload += string(host) + u32(port) + string("127.0.0.1") + u32(40000)
        self.send(payload)

    def open_channel(self, number, host, port, window=1 << 21, packet=32768):
        """The server's number of the channel and its window, or None when the open failed."""
        self.open_request(number, host, port, window, packet)
        fields = Reader(self.expect(OPEN_CONFIRMATION, OPEN_FAILURE))
        if fields.byte() == OPEN_FAILURE:
            fields.u32()
            self.failure = fields.u32()
            return None
        fields.u32()
        return fields.u32(), fields.u32()

    def data(self, channel, data):
        self.send(bytes([DATA]) + u32(channel) + string(data))

    def read(self, n):
        """Exactly n bytes of channel data (one channel in use)."""
        out = bytearray()
        while len(out) < n:
            fields = Reader(self.expect(DATA, CLOSE))
            if fields.byte() == CLOSE:
                raise EOFError("the channel closed")
            fields.u32()
            out += fields.string()
        return bytes(out)

    def is_alive(self):
        """Ask something that must be answered: a global request nobody knows."""
        self.send(bytes([GLOBAL_REQUEST]) + string("are-you-there@example.com") + b"\1")
        return self.expect(REQUEST_SUCCESS, REQUEST_FAILURE)[0] in (REQUEST_SUCCESS, REQUEST_FAILURE)

    def wait_closed(self):
        """Read until the server ends the session; gives its last words."""
        try:
            while True:
                self.chatter(self.recv())
        except Closed as end:
            return end.why
