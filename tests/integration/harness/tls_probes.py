# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a stranger may send to a TLS port below and around HTTP: (name, Prober arguments, pieces, half-close)."""

import ssl

from .prober import context
from .stealth_probes import CLOSE, get

ONE, TWO, THREE = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def client_hello(**more):
    """The first record of a handshake, by OpenSSL."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(**more).wrap_bio(incoming, outgoing, server_hostname="example.org")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def record(body, kind=22, version=b"\x03\x01"):
    return bytes([kind]) + version + len(body).to_bytes(2, "big") + body


def _raw():
    hello = client_hello()
    old = client_hello(version=TWO)
    yield "nothing", []
    yield "one byte of a record", [b"\x16"]
    yield "a record's header", [b"\x16\x03\x01\x02\x00"]
    yield "half a hello", [hello[:100]]
    yield "a hello and silence", [hello]
    yield "a hello of TLS 1.2 and silence", [old]
    yield "a hello in pieces", [hello[i : i + 7] for i in range(0, len(hello), 7)]
    yield "a hello in two records", [record(hello[5:100]), record(hello[100:])]
    yield "a hello twice", [hello + hello]
    yield "a hello of TLS 1.2 twice", [old + old]
    yield "a hello and HTTP", [hello + get()]
    yield "a hello of TLS 1.2 and HTTP", [old + get()]
    yield "a hello and an alert", [hello + record(b"\x01\x00", 21)]
    yield "a hello and a fatal alert", [hello + record(b"\x02\x28", 21)]
    yield "a hello and data", [hello + record(b"x" * 40, 23)]
    yield "a hello with a record of SSL 3", [record(hello[5:], version=b"\x03\x00")]
    yield "a hello with a record of TLS 1.4", [record(hello[5:], version=b"\x03\x04")]
    yield "a hello with a record of SSL 9", [record(hello[5:], version=b"\x09\x01")]
    yield "a hello cut short", [record(hello[5:-10])]
    yield "a hello with a wrong length", [record(b"\x01\x00\x00\x05" + hello[9:])]
    yield "a hello too long", [record(b"\x01\xff\xff\xff" + hello[9:])]
    yield "a hello of another kind", [record(b"\x02" + hello[6:])]
    yield "a finished first", [record(b"\x14\x00\x00\x0c" + bytes(12))]
    yield "hello request first", [record(b"\x00\x00\x00\x00")]
    yield "an empty record", [record(b"")]
    yield "an empty hello", [record(b"\x01\x00\x00\x00")]
    yield "a record too long", [b"\x16\x03\x01\xff\xff" + b"x" * 70000]
    yield "garbage in a record", [record(b"hello, server")]
    yield "0x16 and garbage", [b"\x16" + b"garbage" * 50]
    yield "version of SSL 3", [record(hello[5:9] + b"\x03\x00" + hello[11:])]
    yield "old versions alone", [record(old[5:9] + b"\x03\x01" + old[11:])]
    for name in (b"a..b.exampl", b"...........", b"a/b.example", b"a\x00b.example"[:11], b"\xff" * 11, b"a b.example"):
        yield f"name {name!r}", [hello.replace(b"example.org", name)]
        yield f"name {name!r}, TLS 1.2", [old.replace(b"example.org", name)]
    for first in (b"\x80", b"\xff", b"\x80\x2e\x01\x00\x02" + bytes(41), b"\x80" * 300):
        yield f"first byte {first[:3]!r} of {len(first)}", [first]
    for first in (b"\x00", b"\x14", b"\x15\x03\x01\x00\x02\x01\x00", b"\x17\x03\x01\x00\x01\x00", b"\x18\x03\x01", b"\x7f"):
        yield f"first byte {first[:3]!r} of {len(first)}", [first]
    yield "plain HTTP", [get()]
    yield "plain HTTP, close", [get(CLOSE)]
    yield "plain HTTP, half", [b"GET / HTTP/1.1\r\n"]
    yield "plain HTTP/1.0", [get(line=b"GET / HTTP/1.0")]
    yield "plain HTTP/0.9", [b"GET /\r\n"]
    yield "plain HEAD", [get(line=b"HEAD / HTTP/1.1")]
    yield "plain TRACE", [get(line=b"TRACE / HTTP/1.1")]
    yield "plain HTTP without host", [get(host=b"")]
    yield "plain HTTP by chrome", [get(b"User-Agent: Chrome/1")]
    yield "plain HTTP, gzip", [get(b"Accept-Encoding: gzip")]
    yield "plain HTTP, large body", [get(b"Content-Length: 2000000", line=b"POST / HTTP/1.1")]
    yield "plain HTTP, body", [get(b"Content-Length: 3", line=b"POST / HTTP/1.1", body=b"abc")]
    yield "plain HTTP twice", [get() * 2]
    yield "plain CRLF", [b"\r\n\r\n"]
    yield "plain line of 9000", [b"GET /" + b"x" * 9000]
    yield "plain SSH", [b"SSH-2.0-OpenSSH_9.2\r\n"]


def tls_probes():
    """Yields (name, arguments of Prober, pieces, half-close)."""
    for name, pieces in _raw():
        yield "raw: " + name, {}, pieces, None
        yield "raw, FIN: " + name, {}, pieces, "FIN"
    for name, protocols in {
        "no ALPN": (), "http/1.1": ("http/1.1",), "h2, http/1.1": ("h2", "http/1.1"), "h2": ("h2",), "unknown": ("foo",),
        "http/1.0": ("http/1.0",), "http/0.9": ("http/0.9",), "unknown, http/1.0": ("foo", "http/1.0"), "HTTP/1.1": ("HTTP/1.1",),
        "http/1.0, http/1.1": ("http/1.0", "http/1.1"), "acme-tls/1": ("acme-tls/1",), "ssh": ("ssh",),
    }.items():
        for version in (TWO, THREE):
            yield f"ALPN {name}, {version.name}", {"tls": context(protocols, version)}, [get(CLOSE)], None
    for name in ("unknown.example", "UPPER.example", "x" * 63 + ".example", "under_score", "1.2.3.4"):
        yield f"SNI {name}", {"tls": context(), "name": name}, [get(CLOSE)], None
    yield "TLS 1.0", {"tls": context(version=ONE)}, [], None
    for version in (TWO, THREE):
        for name, pieces in {
            "silence": [], "a request": [get()], "the last request": [get(CLOSE)], "half a request": [b"GET / HTTP"],
            "two requests": [get() * 2], "a bad request": [b"\x00"], "a body that never comes": [get(b"Content-Length: 9")],
        }.items():
            for end in (None, "FIN", "close_notify"):
                yield f"{version.name}, {name}, {end}", {"tls": context(version=version)}, pieces, end
    for ciphers in ("ECDHE+CHACHA20", "AES128-SHA", "DHE", "NULL-SHA", "AES256-GCM-SHA384", "ECDHE+AES128", "CAMELLIA", "PSK", "aNULL"):
        made = context(version=TWO)
        try:
            made.set_ciphers(ciphers + ":@SECLEVEL=0")
        except ssl.SSLError:
            continue
        yield f"ciphers {ciphers}", {"tls": made}, [get(CLOSE)], None
    old = context(version=TWO)
    old.options |= 1  # SSL_OP_NO_EXTENDED_MASTER_SECRET
    yield "no extended master secret", {"tls": old}, [get(CLOSE)], None
    for curve in ("prime256v1", "secp384r1", "secp521r1", "secp256k1", "X25519"):
        made = context()
        try:
            made.set_ecdh_curve(curve)
        except (ssl.SSLError, ValueError):
            continue
        yield f"curve {curve}", {"tls": made}, [get(CLOSE)], None
