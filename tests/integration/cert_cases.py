# SPDX-License-Identifier: MIT OR Apache-2.0
"""The table of test_cert_matrix.py: what both servers know, who asks, and what sshd 9.2 answers."""

from dataclasses import dataclass
from typing import Callable, Optional

from harness.certs import CERT_TYPE, extensions, handmade, pairs
from harness.sshwire import string

YES, NO, AUTH = (True, True), (False, False), (True, False)  # (may come in, may forward)


@dataclass
class Case:
    site: str
    name: str
    sshd: tuple
    make: Optional[Callable] = None  # the certificate of a site: a file or its bytes; without one the key alone
    why: str = ""  # what alknet's log says
    key: str = "user"
    user: str = ""
    alknet: Optional[tuple] = None  # where it differs
    wire: bool = False  # ssh does not offer it
    algorithm: str = ""
    silent: bool = False


def me(site):
    return ["-n", site.user]


def signed(*flags, ca="ca", key="user", principals=me, key_id="id"):
    """By ssh-keygen, for the user unless told otherwise."""

    def make(site):
        names = principals(site) if callable(principals) else list(principals)
        return site.made.sign(ca, key, *names, *flags, key_id=key_id)

    return make


def byhand(ca="ca", **fields):
    """By hand; a field may be a function of the site."""

    def make(site):
        known = {name: value(site) if callable(value) else value for name, value in fields.items()}
        known.setdefault("principals", [site.user])
        return handmade(site.made.key("user"), site.made.key(ca), **known)

    return make


# What the servers know.


def site_ca(site):
    """A file of authorities alone."""
    site.authorities = site.write("authorities", map(site.made.public, ["ca", "ca.ecdsa.256", "ca.ecdsa.384",
                                                                         "ca.ecdsa.521", "ca.rsa.3072"]))


def site_lines(site):
    """authorized_keys with a line for each authority; and `l-from` and `l-restrict` stand in the file too."""
    public = site.made.public
    lines = {
        "l-plain": "cert-authority",
        "l-names": 'cert-authority,principals="web,db"',
        "l-hole": 'cert-authority,principals="web,,db"',
        "l-restrict": "restrict,cert-authority",
        "l-again": "restrict,port-forwarding,cert-authority",
        "l-nofwd": "no-port-forwarding,cert-authority",
        "l-from": 'cert-authority,from="10.0.0.0/8"',
        "l-here": 'cert-authority,from="127.0.0.0/8"',
        "l-not-here": 'cert-authority,from="127.0.0.0/8,!127.0.0.1"',
        "l-stars": 'cert-authority,from="127.*.?.1"',
        "l-old": 'cert-authority,expiry-time="20200101"',
        "l-young": 'cert-authority,expiry-time="20500101"',
        "l-open": 'cert-authority,permitopen="127.0.0.1:*"',
        "l-shut": 'cert-authority,permitopen="127.0.0.1:9"',
        "l-command": 'command="true",cert-authority',
        "l-odd": "cert-authority,frobnicate",
        "l-key": "",
        "l-two": 'cert-authority,principals="nobody"',
    }
    text = ["# authorities"] + [f"{options} {public(ca)}".strip() for ca, options in lines.items()]
    text += [f"cert-authority {public('l-two')}", f'from="10.0.0.0/8" {public("l-late")}', public("l-late")]
    site.authorized = site.write("authorized_keys", text)
    site.authorities = site.write("authorities", [public("l-from"), public("l-restrict")])


def site_krl(site):
    """Revoked by a KRL of every kind of section."""
    spec = "serial: 5\nserial: 20-30\nserial: 18446744073709551615\nid: gone\n"
    spec += f"key: {site.made.public('gone')}\nsha1: {site.made.public('gone1')}\nsha256: {site.made.public('gone256')}\n"
    spec += f"key: {site.made.public('old-ca')}\n"
    site.revoked = site.made.krl("krl", spec, "-s", str(site.made.path("ca")) + ".pub")
    site.authorities = site.write("authorities", [site.made.public("ca"), site.made.public("old-ca"), site.made.public("ca2")])
    site.authorized = site.write("authorized_keys", map(site.made.public, ["plain", "gone", "gone1", "gone256"]))


def site_bitmap(site):
    """Serials so close together that ssh-keygen writes a bitmap; ids of any authority."""
    site.revoked = site.made.krl(
        "bitmap", "".join(f"serial: {n}\n" for n in range(100, 160, 3)), "-s", str(site.made.path("ca")) + ".pub")
    site.authorities = site.write("authorities", [site.made.public("ca"), site.made.public("ca2")])


def site_anyca(site):
    site.revoked = site.made.krl("anyca", "id: gone\nserial: 7\n", "-s", "none")
    site.authorities = site.write("authorities", [site.made.public("ca"), site.made.public("ca2")])


def site_list(site):
    """Revoked by a list of public keys; the line of a certificate stands for its key."""
    certificate = site.made.sign("ca", "gone2", "-n", "whoever").read_text().strip()
    site.revoked = site.write("list", ["# gone", "", site.made.public("gone"), certificate, site.made.public("old-ca")])
    site.authorities = site.write("authorities", [site.made.public("ca"), site.made.public("old-ca")])
    site.authorized = site.write("authorized_keys", map(site.made.public, ["plain", "gone", "gone2"]))


SITES = {name[5:]: site for name, site in list(globals().items()) if name.startswith("site_")}

# Who asks.

FORWARD = extensions("permit-port-forwarding")


def names(n):
    return lambda site: [f"u{i}" for i in range(n - 1)] + [site.user]


def nested(site):
    """A certificate where the authority's key should stand."""
    return handmade(site.made.key("ca"), site.made.key("ca"), principals=[site.user])


CA = [
    Case("ca", "good", YES, signed()),
    Case("ca", "two-principals", YES, signed(principals=lambda s: ["-n", "other," + s.user])),
    Case("ca", "256-principals", YES, byhand(principals=names(256))),
    Case("ca", "257-principals", NO, byhand(principals=names(257)), "more than 256 principals"),
    Case("ca", "wrong-principal", NO, signed(principals=["-n", "other"]), "wrong principal"),
    Case("ca", "longer-principal", NO, signed(principals=lambda s: ["-n", s.user + "x"]), "wrong principal"),
    Case("ca", "shorter-principal", NO, signed(principals=lambda s: ["-n", s.user[:-1]]), "wrong principal"),
    Case("ca", "other-case-principal", NO, signed(principals=lambda s: ["-n", s.user.upper()]), "wrong principal"),
    Case("ca", "comma-principal", NO, byhand(principals=lambda s: [s.user + ",x"]), "wrong principal"),
    Case("ca", "no-principals", NO, signed(principals=()), "lacks principal list"),
    Case("ca", "empty-principal", NO, byhand(principals=[""]), "wrong principal"),
    Case("ca", "expired", NO, signed("-V", "20200101:20200102"), "expired"),
    Case("ca", "not-yet-valid", NO, signed("-V", "20500101:20500102"), "not yet valid"),
    Case("ca", "forever", YES, signed("-V", "always:forever")),
    Case("ca", "ends-before-it-begins", NO, byhand(after=1 << 62, before=1), "not yet valid"),
    Case("ca", "wrong-ca", NO, signed(ca="stranger"), "signed by no trusted authority"),
    Case("ca", "self-signed", NO, signed(ca="user"), "signed by no trusted authority"),
    Case("ca", "unknown-critical-option", NO, signed("-O", "critical:x@example.com=1"),
         "unknown critical option `x@example.com`"),
    Case("ca", "unknown-extension", YES, signed("-O", "extension:x@example.com=1")),
    Case("ca", "extension-as-critical-option", NO, byhand(critical=FORWARD), "unknown critical option"),
    Case("ca", "critical-option-as-extension", YES,
         byhand(extension=FORWARD + pairs(("source-address", string("10.0.0.0/8"))))),
    Case("ca", "source-address", YES, signed("-O", "source-address=127.0.0.1/32")),
    Case("ca", "source-address-in-list", YES, signed("-O", "source-address=10.0.0.0/8,::1/128,127.0.0.0/8")),
    Case("ca", "source-address-elsewhere", NO, signed("-O", "source-address=10.0.0.0/8"), "source address"),
    Case("ca", "source-address-ipv6", NO, signed("-O", "source-address=::/0"), "source address"),
    Case("ca", "source-address-mapped", NO, byhand(critical=pairs(("source-address", string("::ffff:127.0.0.1")))),
         "source address"),
    Case("ca", "source-address-host-bits", NO, byhand(critical=pairs(("source-address", string("127.0.0.1/8")))), "damaged"),
    Case("ca", "source-address-empty", NO, byhand(critical=pairs(("source-address", string("")))), "damaged"),
    Case("ca", "source-address-hole", NO, byhand(critical=pairs(("source-address", string("127.0.0.1,,10.0.0.1")))), "damaged"),
    Case("ca", "source-address-not-a-string", NO, byhand(critical=pairs(("source-address", b"127.0.0.1"))), "damaged"),
    Case("ca", "source-address-name", NO, byhand(critical=pairs(("source-address", string("localhost")))), "damaged"),
    Case("ca", "source-address-twice", NO,
         byhand(critical=pairs(*[("source-address", string("127.0.0.1"))] * 2)), "is there twice"),
    Case("ca", "options-out-of-order", YES,
         byhand(critical=pairs(("verify-required", b""), ("source-address", string("127.0.0.1"))))),
    Case("ca", "verify-required", YES, signed("-O", "verify-required")),
    Case("ca", "force-command", YES, signed("-O", "force-command=true"), "force-command", alknet=NO),
    Case("ca", "clear", AUTH, signed("-O", "clear")),
    Case("ca", "no-port-forwarding", AUTH, signed("-O", "no-port-forwarding")),
    Case("ca", "forwarding-alone", YES, signed("-O", "clear", "-O", "permit-port-forwarding")),
    Case("ca", "pty-alone", AUTH, signed("-O", "clear", "-O", "permit-pty")),
    Case("ca", "extension-with-content", NO, byhand(extension=pairs(("permit-port-forwarding", b"1"))), "is damaged"),
    Case("ca", "extension-twice", YES, byhand(extension=FORWARD * 2)),
    Case("ca", "huge-extension", YES, byhand(extension=FORWARD + pairs(("x@example.com", bytes(60000))))),
    Case("ca", "huge-key-id", YES, byhand(key_id="k" * 20000)),
    Case("ca", "rsa-sha512-ca", YES, signed("-t", "rsa-sha2-512", ca="ca.rsa.3072")),
    Case("ca", "rsa-sha256-ca", YES, signed("-t", "rsa-sha2-256", ca="ca.rsa.3072")),
    Case("ca", "ssh-rsa-ca", NO, signed("-t", "ssh-rsa", ca="ca.rsa.3072"), "SHA-1", wire=True),
    Case("ca", "ecdsa256-ca", YES, signed(ca="ca.ecdsa.256")),
    Case("ca", "ecdsa384-ca", YES, signed(ca="ca.ecdsa.384")),
    Case("ca", "ecdsa521-ca", YES, signed(ca="ca.ecdsa.521")),
    Case("ca", "ecdsa-user", YES, signed(key="user.ecdsa.256"), key="user.ecdsa.256"),
    Case("ca", "rsa-user", YES, signed(key="user.rsa.3072"), key="user.rsa.3072"),
    Case("ca", "rsa-user-rsa-ca", YES, signed(key="user.rsa.3072", ca="ca.rsa.3072"), key="user.rsa.3072"),
    Case("ca", "host-certificate", NO, signed("-h"), "not a user certificate", wire=True),
    Case("ca", "kind-3", NO, byhand(kind=3), "neither for a user nor for a host"),
    Case("ca", "no-nonce", YES, byhand(nonce=b"")),
    Case("ca", "long-nonce", YES, byhand(nonce=bytes(4000))),
    Case("ca", "reserved", YES, byhand(reserved=b"later")),
    Case("ca", "great-serial", YES, byhand(serial=(1 << 64) - 1)),
    Case("ca", "trailing-byte", NO, byhand(tail=b"\0"), "bytes behind it"),
    Case("ca", "wrong-signature", NO, byhand(spoil=True), "signature is wrong"),
    Case("ca", "nul-in-key-id", NO, byhand(key_id="a\0b"), "NUL"),
    Case("ca", "nul-in-principal", NO, byhand(principals=lambda s: [s.user + "\0x"]), "NUL"),
    Case("ca", "nested-ca", NO, byhand(ca_blob=nested), "is a certificate itself"),
    # libssh does not tell the name of the algorithm, which says less than the certificate itself.
    Case("ca", "plain-algorithm", NO, byhand(), algorithm="ssh-ed25519", alknet=YES),
    Case("ca", "plain-blob", NO, lambda s: s.made.blob("user"), algorithm=CERT_TYPE),
    Case("ca", "other-algorithm", NO, byhand(), algorithm="ecdsa-sha2-nistp256-cert-v01@openssh.com", alknet=YES),
    Case("ca", "key-alone", NO),
    Case("ca", "ca-key-alone", NO, key="ca"),
]

LINES = [
    Case("lines", "good", YES, signed(ca="l-plain")),
    Case("lines", "wrong-principal", NO, signed(ca="l-plain", principals=["-n", "other"]), "wrong principal"),
    Case("lines", "no-principals", YES, signed(ca="l-plain", principals=())),
    Case("lines", "clear", AUTH, signed("-O", "clear", ca="l-plain")),
    Case("lines", "expired", NO, signed("-V", "20200101:20200102", ca="l-plain"), "expired"),
    Case("lines", "line-force-command", YES, signed("-O", "force-command=true", ca="l-plain"), "force-command", alknet=NO),
    Case("lines", "unknown-critical-option", NO, signed("-O", "critical:x@example.com=1", ca="l-plain"), "x@example.com"),
    Case("lines", "host-certificate", NO, signed("-h", ca="l-plain"), "not a user certificate", wire=True),
    Case("lines", "names-first", YES, signed(ca="l-names", principals=["-n", "web"])),
    Case("lines", "names-second", YES, signed(ca="l-names", principals=["-n", "x,db"])),
    Case("lines", "names-not-the-user", NO, signed(ca="l-names"), "wrong principal"),
    Case("lines", "names-none", NO, signed(ca="l-names", principals=()), "wrong principal"),
    Case("lines", "names-comma", NO, byhand(ca="l-names", principals=["web,db"]), "wrong principal"),
    Case("lines", "names-hole-first", YES, signed(ca="l-hole", principals=["-n", "web"])),
    Case("lines", "names-hole-empty", NO, byhand(ca="l-hole", principals=[""]), "wrong principal"),
    Case("lines", "names-hole-second", NO, signed(ca="l-hole", principals=["-n", "db"]), "wrong principal"),
    Case("lines", "restrict", AUTH, signed(ca="l-restrict")),
    Case("lines", "restrict-again", YES, signed(ca="l-again")),
    Case("lines", "restrict-again-clear", AUTH, signed("-O", "clear", ca="l-again")),
    Case("lines", "no-port-forwarding", AUTH, signed(ca="l-nofwd")),
    Case("lines", "from-elsewhere-but-in-the-file", YES, signed(ca="l-from")),
    Case("lines", "from-here", YES, signed(ca="l-here")),
    Case("lines", "from-here-source-elsewhere", NO, signed("-O", "source-address=10.0.0.0/8", ca="l-here"), "source address"),
    Case("lines", "from-negated", NO, signed(ca="l-not-here"), "source address"),
    Case("lines", "from-wildcards", YES, signed(ca="l-stars")),
    Case("lines", "line-expired", NO, signed(ca="l-old"), "expir"),
    Case("lines", "line-not-expired", YES, signed(ca="l-young")),
    Case("lines", "permitopen", YES, signed(ca="l-open")),
    Case("lines", "permitopen-other-port", AUTH, signed(ca="l-shut")),
    Case("lines", "permitopen-clear", AUTH, signed("-O", "clear", ca="l-open")),
    Case("lines", "command", YES, signed(ca="l-command")),
    Case("lines", "unknown-option", NO, signed(ca="l-odd"), "signed by no trusted authority"),
    Case("lines", "line-without-cert-authority", NO, signed(ca="l-key"), "signed by no trusted authority"),
    Case("lines", "ca-key-that-is-a-user-key-too", YES, key="l-key"),
    Case("lines", "ca-key-alone", NO, key="l-plain"),
    Case("lines", "second-line-of-a-ca", YES, signed(ca="l-two")),
    Case("lines", "second-line-of-a-key", YES, key="l-late"),
]

KRL = [
    Case("krl", "good", YES, signed("-z", "4")),
    Case("krl", "serial", NO, signed("-z", "5"), "revoked"),
    Case("krl", "serial-of-another-ca", YES, signed("-z", "5", ca="ca2")),
    Case("krl", "range-begin", NO, signed("-z", "20"), "revoked"),
    Case("krl", "range-end", NO, signed("-z", "30"), "revoked"),
    Case("krl", "range-behind", YES, signed("-z", "31")),
    Case("krl", "greatest-serial", NO, byhand(serial=(1 << 64) - 1), "revoked"),
    Case("krl", "serial-0", YES, signed("-z", "0")),
    Case("krl", "key-id", NO, signed(key_id="gone"), "revoked"),
    Case("krl", "longer-key-id", YES, signed(key_id="gone2")),
    Case("krl", "revoked-ca", NO, signed(ca="old-ca"), "revoked"),
    Case("krl", "key-of-certificate", NO, signed(key="gone"), "revoked", key="gone"),
    Case("krl", "sha1-of-certificate", NO, signed(key="gone1"), "revoked", key="gone1"),
    Case("krl", "sha256-of-certificate", NO, signed(key="gone256"), "revoked", key="gone256"),
    Case("krl", "plain-key", NO, why="revoked", key="gone"),
    Case("krl", "plain-key-sha1", NO, why="revoked", key="gone1"),
    Case("krl", "plain-key-sha256", NO, why="revoked", key="gone256"),
    Case("krl", "plain-key-good", YES, key="plain"),
    Case("krl", "revoked-and-expired", NO, signed("-z", "5", "-V", "20200101:20200102"), "revoked"),
    Case("bitmap", "in-it", NO, signed("-z", "103"), "revoked"),
    Case("bitmap", "last-in-it", NO, signed("-z", "157"), "revoked"),
    Case("bitmap", "between", YES, signed("-z", "104")),
    Case("bitmap", "another-ca", YES, signed("-z", "103", ca="ca2")),
    Case("anyca", "key-id", NO, signed(key_id="gone", ca="ca2"), "revoked"),
    Case("anyca", "serial", NO, signed("-z", "7"), "revoked"),
    Case("anyca", "good", YES, signed("-z", "8")),
    Case("list", "good", YES, signed()),
    Case("list", "plain-key-good", YES, key="plain"),
    Case("list", "plain-key", NO, why="revoked", key="gone"),
    Case("list", "key-of-certificate", NO, signed(key="gone"), "revoked", key="gone"),
    Case("list", "listed-certificate", NO, signed(key="gone2"), "revoked", key="gone2"),
    Case("list", "listed-certificate-plain-key", NO, why="revoked", key="gone2"),
    Case("list", "revoked-ca", NO, signed(ca="old-ca"), "revoked"),
]

CASES = CA + LINES + KRL
