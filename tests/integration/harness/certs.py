# SPDX-License-Identifier: MIT OR Apache-2.0
"""Certificates (PROTOCOL.certkeys): by ssh-keygen, or by hand where ssh-keygen makes none of that kind."""

import base64
import struct
import subprocess
from pathlib import Path

from .procs import make_key
from .sshwire import load_key, string, u32

CERT_TYPE = "ssh-ed25519-cert-v01@openssh.com"
FOREVER = (1 << 64) - 1


def u64(n):
    return struct.pack(">Q", n)


def key_blob(key):
    return string("ssh-ed25519") + string(key.public)


def pairs(*options):
    """Critical options or extensions: (name, content) each."""
    return b"".join(string(name) + string(content) for name, content in options)


def extensions(*names):
    return pairs(*((name, b"") for name in names))


def handmade(
    key, ca, *, type_name=CERT_TYPE, nonce=b"n" * 32, serial=1, kind=1, key_id="id", principals=(), after=0, before=FOREVER,
    critical=b"", extension=extensions("permit-port-forwarding"), reserved=b"", ca_blob=None, tail=b"", spoil=False,
):
    """A certificate's blob for the public half of `key`, signed by the Ed25519 key `ca` whatever it says."""
    body = string(type_name) + string(nonce) + string(key.public) + u64(serial) + u32(kind) + string(key_id)
    body += string(b"".join(string(name) for name in principals)) + u64(after) + u64(before)
    body += string(critical) + string(extension) + string(reserved) + string(ca_blob or key_blob(ca))
    proof = bytearray(ca.sign(body))
    proof[7] ^= spoil
    return body + string(string("ssh-ed25519") + string(proof)) + tail


class Authorities:
    """Key pairs in files of one directory, made when they are first asked for."""

    def __init__(self, directory):
        self.dir, self.count = Path(directory), 0

    def path(self, name):
        """A name is `ca`, or a kind and a number of bits besides: `ca.rsa.3072`."""
        path = self.dir / name
        if not path.exists():
            kind, *bits = name.split(".")[1:] or ["ed25519"]
            make_key(path, kind, "", *(["-b", *bits] if bits else []))
        return path

    def public(self, name):
        return Path(f"{self.path(name)}.pub").read_text().strip()

    def blob(self, name):
        return base64.b64decode(self.public(name).split()[1])

    def key(self, name):
        return load_key(self.path(name))

    def sign(self, ca, user, *flags, key_id="id"):
        """The file of a certificate that ssh-keygen made."""
        self.count += 1
        public = self.dir / f"signed{self.count}.pub"
        public.write_text(self.public(user) + "\n")
        # Without -V it is valid for ever.
        subprocess.run(["ssh-keygen", "-q", "-s", self.path(ca), "-I", key_id, *flags, public], check=True)
        return self.dir / f"signed{self.count}-cert.pub"

    def krl(self, name, spec, *flags):
        """A revocation list of what `spec` says (ssh-keygen(1), KEY REVOCATION LISTS)."""
        path, source = self.dir / name, self.dir / (name + ".spec")
        source.write_text(spec)
        subprocess.run(["ssh-keygen", "-q", "-k", "-f", path, *flags, source], check=True)
        return path


def blob_of(path):
    return base64.b64decode(Path(path).read_text().split()[1])
