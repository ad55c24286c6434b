# SPDX-License-Identifier: MIT OR Apache-2.0
"""An operator, an account and a user of NATS: its keys (nkeys), tokens (JWT) and the .creds file that a user is given."""

import base64
import hashlib
import json
import os
import struct
import time

from . import crypto

OPERATOR, ACCOUNT, USER, SEED = 14 << 3, 0, 20 << 3, 18 << 3


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def encode(raw):
    return base64.b32encode(raw + struct.pack("<H", crc16(raw))).decode().rstrip("=")


class Key:
    def __init__(self, kind):
        secret = os.urandom(32)
        self.key = crypto.Ed25519(secret)
        self.name = encode(bytes([kind]) + self.key.public)
        self.seed = encode(bytes([SEED | kind >> 5, (kind & 31) << 3]) + secret)

    def token(self, name, subject, claims):
        """A JWT about `subject` that this key signs."""

        def part(value):
            return base64.urlsafe_b64encode(value).decode().rstrip("=")

        claims = {"iat": int(time.time()), "iss": self.name, "name": name, "sub": subject, "nats": {"version": 2, **claims}}
        claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
        text = part(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode()) + "." + part(json.dumps(claims).encode())
        return text + "." + part(self.key.sign(text.encode()))


UNLIMITED = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1, "wildcards": True}


class Operator:
    """`config` is for the server; creds() writes what a user of its one account logs in with."""

    def __init__(self):
        self.key, self.account = Key(OPERATOR), Key(ACCOUNT)
        own = self.key.token("test", self.key.name, {"type": "operator"})
        account = self.key.token("mesh", self.account.name, {"type": "account", "limits": UNLIMITED})
        self.config = f"operator: {own}\nresolver: MEMORY\nresolver_preload: {{ {self.account.name}: {account} }}\n"

    def creds(self, path):
        user = Key(USER)
        token = self.account.token("alknet", user.name, {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1})
        path.write_text(f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
                        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
        path.chmod(0o600)
        return path
