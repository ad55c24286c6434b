# SPDX-License-Identifier: MIT OR Apache-2.0
"""The other end of sshwire: an SSH server made by hand, for one client, that lets anybody in."""

import hashlib
import os
import socket

from . import crypto
from .sshwire import (
    AUTH_REQUEST, AUTH_SUCCESS, CHANNEL_OPEN, ECDH_INIT, ECDH_REPLY, KEXINIT, NEWKEYS, OPEN_CONFIRMATION, SERVICE_ACCEPT,
    SERVICE_REQUEST, Reader, Wire, load_key, mpint, string, u32,
)
from .waiting import scaled


class Host(Wire):
    """Listens on `port` from the start; accept() takes the client through login."""

    def __init__(self, key_path, timeout=30):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(scaled(timeout))
        self.port = self.listener.getsockname()[1]
        self.key = load_key(key_path)
        self.blob = string("ssh-ed25519") + string(self.key.public)
        self.timeout = timeout
        self.buffer = bytearray()
        self.seal = self.open_ = self.session_id = self.sock = None
        self.version, self.peer_version = b"SSH-2.0-Handmade_host", b""
        self.debug = []

    def close(self):
        self.listener.close()
        if self.sock:
            self.sock.close()

    def accept(self):
        self.sock, _ = self.listener.accept()
        self.sock.settimeout(scaled(self.timeout))
        self.hello()
        self.exchange_keys()
        self.expect(SERVICE_REQUEST)
        self.send(bytes([SERVICE_ACCEPT]) + string("ssh-userauth"))
        self.expect(AUTH_REQUEST)
        self.send(bytes([AUTH_SUCCESS]))
        return self

    def kexinit(self):
        lists = ["curve25519-sha256,kex-strict-s-v00@openssh.com", "ssh-ed25519"]
        lists += ["aes256-gcm@openssh.com"] * 2 + ["hmac-sha2-256"] * 2 + ["none"] * 2 + [""] * 2
        return bytes([KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + b"\0" + u32(0)

    def exchange_keys(self, theirs=None, ours=None, between=()):
        ours = ours or self.kexinit()
        self.send(ours)
        while theirs is None or theirs[0] != KEXINIT:
            theirs = self.packet()
        for payload in between:
            self.send(payload)
        ask = self.packet()
        while ask[0] != ECDH_INIT:
            ask = self.packet()
        peer = Reader(ask[1:]).string()
        pair = crypto.X25519(os.urandom(32))
        shared = mpint(pair.shared(peer))
        text = string(self.peer_version) + string(self.version) + string(theirs) + string(ours)
        digest = hashlib.sha256(text + string(self.blob) + string(peer) + string(pair.public) + shared).digest()
        self.session_id = self.session_id or digest
        proof = string("ssh-ed25519") + string(self.key.sign(digest))
        self.send(bytes([ECDH_REPLY]) + string(self.blob) + string(pair.public) + string(proof))
        self.send(bytes([NEWKEYS]))

        def derive(letter):
            return hashlib.sha256(shared + digest + letter + self.session_id).digest()

        self.seal = crypto.Gcm(derive(b"D"), derive(b"B"), True)
        while self.packet()[0] != NEWKEYS:
            pass
        self.open_ = crypto.Gcm(derive(b"C"), derive(b"A"), False)

    def asked(self):
        """The next open: the client's number of the channel, its window and packet size."""
        fields = Reader(self.expect(CHANNEL_OPEN)[1:])
        fields.string()
        return fields.u32(), fields.u32(), fields.u32()

    def confirm(self, theirs, ours, window=1 << 21, packet=32768):
        self.send(bytes([OPEN_CONFIRMATION]) + u32(theirs) + u32(ours) + u32(window) + u32(packet))
