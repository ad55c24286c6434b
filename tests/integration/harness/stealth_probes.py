# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a stranger may send to a web server: (name, pieces). Each piece is sent by itself; ANSWERED among them
waits until the server has said something more, a number is a pause in seconds."""

ANSWERED = None

HOST = b"Host: example.org\r\n"


def get(*fields, line=b"GET / HTTP/1.1", host=HOST, body=b""):
    return line + b"\r\n" + host + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


def post(body, *fields, line=b"POST /form HTTP/1.1"):
    return get(b"Content-Length: %d" % len(body), *fields, line=line, body=body)


def chunked(body, *fields):
    return get(b"Transfer-Encoding: chunked", *fields, line=b"POST /form HTTP/1.1", body=body)


CLOSE = b"Connection: close"
LAST = get(CLOSE)
AGENTS = {
    "chrome": b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/109.0 Safari/537.36",
    "firefox": b"Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
    "gecko and chrome": b"Gecko/1 Chrome/1",
    "opera": b"Opera/9.80 MSIE 6.0; Chrome/1",
    "msie 5": b"Mozilla/4.0 (compatible; MSIE 5.5; Windows)",
    "msie 6": b"Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)",
    "msie 6 sp2": b"Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; SV1)",
    "msie 9": b"Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1)",
    "msie cut": b"MSIE 6",
    "msie just cut": b"MSIE 6.",
    "msie whole": b"MSIE 6.0",
}
ENCODINGS = [
    b"gzip", b"gzip, deflate, br", b"deflate, gzip", b"GZIP", b"x-gzip", b"gzip;q=0", b"gzip;q=1", b"gzip;q=0.5",
    b"gzip;q=0.0001", b"gzip; q=1.1", b"gzip;", b"gzip ;q=2", b"gzipped", b"br", b"*", b"", b"identity,gzip;q=1.0",
    b"gzip\t", b"gzip;q=1.000,x", b"gzip;x=1", b"gzip;q=", b"gzip;q=.5", b"gzi", b"deflate;gzip",
]
PATHS = [
    b"/index.html", b"/a/b/../c", b"/..", b"/../", b"/a/../..", b"/a/../../b", b"/./a", b"//", b"//a//b/../../..", b"/%2e%2e",
    b"/%2e%2e/a", b"/a/%2E%2E/b", b"/%", b"/%4", b"/%zz", b"/%00", b"/%41", b"/%23/..%3f/%25", b"/%2f..", b"/a?b=/../../..",
    b"/a#b/../../..", b"/..?x", b"/..#x", b"/a/..?x", b"/a/.", b"/...", b"/.%2e", b"/\xff\xfe", b"/?", b"/#", b"/+a+b", b"/a\\..\\b",
    b"/" + b"x" * 3000, b"*", b"index.html", b"/\x7f", b"/\x01", b"/a\tb", b"http://example.org/", b"http://example.org",
    b"HTTPS://example.org:443/x", b"http://example.org?q", b"http://example.org:?q", b"http://[::1]/", b"http://[::1]:80/x",
    b"http://[::1", b"http://[a b]/", b"http:/x", b"http//x", b"http://", b"http:///x", b"http://a..b/", b"http://./",
    b"http://a_b/", b"ftp+x.y-z://h/", b"1http://h/", b"http://h:8o/", b"http://h:80/%2e%2e", b"/ab%c3%a9",
]
METHODS = [
    b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"PATCH", b"PROPFIND", b"TRACE", b"CONNECT", b"BREW", b"A", b"_", b"-X-",
    b"GETGETGETGETGETGETGETGETGETGETGET", b"get", b"G3T", b"G\xc3T", b"PRI",
]
LINES = [
    b"GET /", b"GET / ", b"GET  /  ", b"POST /", b"HEAD /", b"GET /%zz", b"GET / HTTP/1.0", b"GET / HTTP/1.00", b"GET / HTTP/1.2",
    b"GET / HTTP/1.999", b"GET / HTTP/1.1000", b"GET / HTTP/2.0", b"GET / HTTP/11.0", b"GET / HTTP/0.9", b"GET / HTTP/1",
    b"GET / HTTP/1.", b"GET / HTTP/1.x", b"GET / HTTP/1.1 ", b"GET / HTTP/1.1  x", b"GET / http/1.1", b"GET / HTTQ/1.1", b"GET / HTTP",
    b"GET / x", b"GET", b"GET ", b"  GET / HTTP/1.1", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\t", b"GET\t/ HTTP/1.1", b"HEAD / HTTP/3.0",
    b"HEAD / HTTP/1.1\x00", b"GET /\x00 HTTP/1.1", b"\x00", b"\x80\x00\x00\x01", b"SSH-1.99-x", b"SSH-2", b"PRI * HTTP/2.0", b"{}", b"<?xml",
    b"GET http://example.org/ HTTP/1.0", b"GET http://a..b/ HTTP/1.0", b"GET http://example.org/", b"HEAD /../ HTTP/1.1",
]
HOSTS = [
    b"Host: a\r\nHost: b\r\n", b"", b"Host:\r\n", b"Host: \r\n", b"Host\r\n", b"Host: a b\r\n", b"Host: a/b\r\n", b"Host: a\tb\r\n",
    b"Host: .\r\n", b"Host: a.\r\n", b"Host: a..\r\n", b"Host: ..a\r\n", b"Host: :80\r\n", b"Host: a:80\r\n", b"Host: a:x\r\n", b"Host: [::1]:80\r\n",
    b"Host: [::1\r\n", b"Host: a]\r\n", b"Host: \xff\r\n", b"HOST: a\r\n", b"Host : a\r\n", b"Host_: a\r\n", b"Host: a \r\n", b"Host: a:.\r\n",
    b"Host: a.:1.\r\n",
]
FIELDS = [
    b"X: \x00", b"X\x00: a", b": a", b" X: a", b"\tX: a", b"X Y: a", b"X\x7f: a", b"X_Y: a", b"X\x80: a", b"X", b"X:", b"X: a\rb", b"X: a\r\r",
    b"X: a \r", b"X: a\x7f\x01", b"(): a", b"Content-Length: 0", b"Content-Length: -1", b"Content-Length: ", b"Content-Length: 1x",
    b"Content-Length: 99999999999999999999", b"Content-Length: 9223372036854775808", b"Content-Length: 0\r\nContent-Length: 0",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: ", b"Transfer-Encoding: CHUNKED\r\nTransfer-Encoding: chunked",
    b"Expect: 100-continue", b"Expect: x\r\nExpect: x", b"Authorization: a\r\nAuthorization: b", b"If-Match: a\r\nIf-Match: b",
    b"If-None-Match: a\r\nIf-None-Match: b", b"If-Range: a\r\nIf-Range: b", b"If-Modified-Since: a\r\nIf-Modified-Since: b",
    b"If-Unmodified-Since: a\r\nIf-Unmodified-Since: b", b"Content-Range: a\r\nContent-Range: b", b"Range: a\r\nRange: b",
    b"User-Agent: a\r\nUser-Agent: Chrome/1", b"User-Agent: Chrome/1\r\nUser-Agent: a", b"Accept-Encoding: br\r\nAccept-Encoding: gzip",
    b"Accept-Encoding: gzip\r\nAccept-Encoding: br", b"Accept-Encoding: gzip\r\nVia: 1.1 x", b"Connection: close, keep-alive",
    b"Connection: KEEP-ALIVE", b"Connection: upgrade\r\nUpgrade: websocket", b"Connection: close\r\nConnection: keep-alive",
    b"Connection: keep-alive\r\nConnection: x", b"Connection: enclosed", b"Keep-Alive: 300", b"Cookie: a\r\nCookie: b", b"Referer: a\r\nReferer: b",
    b"TE: trailers", b"Upgrade: h2c\r\nHTTP2-Settings: AAA", b"Content-Type: a\r\nContent-Type: b", b"Via: a\r\nVia: b",
    b"Proxy-Connection: close", b"Accept-Encoding: gzip\r\nUser-Agent: Chrome/1", b"Transfer_Encoding: chunked",
]
BODIES = {
    "none of it": b"", "one chunk": b"3\r\nabc\r\n0\r\n\r\n", "bare LF": b"3\nabc\n0\n\n", "extension": b"3;a=b\r\nabc\r\n0;x\r\n\r\n",
    "space": b"3 \r\nabc\r\n0\t\r\n\r\n", "trailer": b"0\r\nX: a\r\nY: b\r\n\r\n", "no size": b"\r\n", "not a number": b"g\r\n",
    "too large": b"7fffffffffffffff\r\n", "far too large": b"10000000000000000\r\n", "large": b"7ffffffffffffff0\r\nabc",
    "wrong end": b"3\r\nabcd\r\n", "wrong size end": b"3\rabc", "wrong trailer": b"0\r\nX\rY", "zeros": b"000\r\n\r\n",
    "upper case": b"A\r\n0123456789\r\n0\r\n\r\n", "unfinished": b"5\r\nabc", "unfinished trailer": b"0\r\nX: a",
    "last CR": b"0\r\n\rx", "wrong last": b"0x\r\n", "in between": b"3\r\nabc\rx",
}


def _sized():
    """Requests whose parts reach the limits of nginx's buffers (1 KiB, then four of 8 KiB)."""
    for n in (1000, 1024, 1025, 8170, 8191, 8192, 8193, 9000, 20000):
        yield f"line of {n}", [b"GET /" + b"x" * (n - 16) + b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n\r\n"]
        yield f"field of {n}", [get(CLOSE, b"X: " + b"y" * (n - 5))]
    for n in (20, 31, 32, 33, 34, 40):
        yield f"{n} fields of 1000", [get(CLOSE, *[b"X%02d: " % i + b"z" * 993 for i in range(n)])]
    for n in (3, 4, 5):
        yield f"{n} fields of 8000", [get(CLOSE, *[b"X: " + b"z" * 7995 for _ in range(n)])]
    for n in (1022, 1023, 1024, 1025, 1026, 8191, 8192, 8193):
        fill = n - len(b"GET / HTTP/1.1\r\n" + HOST + b"X: \r\n\r\n")
        yield f"header of {n}", [get(b"X: " + b"a" * fill), LAST]
        yield f"line that ends at {n}", [(b"GET /" + b"x" * (n - 16) + b" HTTP/1.1\r\n", HOST + CLOSE + b"\r\n\r\n")]
    yield "field begun at the end", [get(b"X: " + b"a" * 960, b"Y: " + b"b" * 8000, CLOSE)]
    yield "line of 30000 without end", [b"GET /" + b"x" * 30000]
    yield "method of 9000", [b"G" * 9000]


def _bodies():
    for name, body in BODIES.items():
        yield f"chunked, {name}", [chunked(body)]
        yield f"chunked and close, {name}", [chunked(body, CLOSE)]
        yield f"chunked later, {name}", [chunked(b""), ANSWERED, body]
        yield f"chunked and more, {name}", [chunked(body) + get()]
    for n in (1, 500, 3000, 5000, 8192, 20000, 1048576):
        yield f"body of {n}", [post(b"b" * n), LAST]
        yield f"body of {n} and close", [post(b"b" * n, CLOSE)]
    yield "body of 1048577", [post(b"b" * 1048577)]
    yield "body of 1048577 promised", [get(b"Content-Length: 1048577", line=b"POST / HTTP/1.1")]
    yield "body never sent", [get(b"Content-Length: 10", line=b"POST / HTTP/1.1")]
    yield "body never sent, close", [get(b"Content-Length: 10", CLOSE, line=b"POST / HTTP/1.1")]
    yield "body in part", [get(b"Content-Length: 10", line=b"POST / HTTP/1.1", body=b"12345")]
    yield "body in pieces", [get(b"Content-Length: 10", line=b"POST / HTTP/1.1", body=b"12345"), ANSWERED, b"67890", LAST]
    yield "body expected", [get(b"Content-Length: 5", b"Expect: 100-continue", line=b"PUT / HTTP/1.1"), ANSWERED, b"12345", LAST]
    yield "body of GET", [get(b"Content-Length: 3", body=b"abc") + LAST]
    yield "body of HEAD", [get(b"Content-Length: 3", line=b"HEAD / HTTP/1.1", body=b"abc") + LAST]
    yield "body of TRACE", [get(b"Content-Length: 3", line=b"TRACE / HTTP/1.1", body=b"abc") + LAST]
    yield "body of TRACE, never sent", [get(b"Content-Length: 3", line=b"TRACE / HTTP/1.1")]
    yield "body of HTTP/1.0", [post(b"abc", line=b"POST / HTTP/1.0")]
    yield "body and chunks", [get(b"Content-Length: 3", b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1", body=b"abc")]
    yield "chunks of HTTP/1.0", [get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0", body=b"0\r\n\r\n")]
    yield "unknown coding with body", [get(b"Content-Length: 3", b"Transfer-Encoding: x", line=b"POST / HTTP/1.1", body=b"abc")]
    yield "unknown coding, body never sent", [get(b"Content-Length: 3", b"Transfer-Encoding: x", line=b"POST / HTTP/1.1")]
    yield "no host, body never sent", [get(b"Content-Length: 3", host=b"", line=b"POST / HTTP/1.1")]
    yield "msie 6 posts", [post(b"abc", b"User-Agent: " + AGENTS["msie 6"])]
    yield "a long chunk and more", [chunked(b"1f40\r\n" + b"c" * 8000 + b"\r\n0\r\n\r\n" + get() + LAST)]
    yield "a long body and more", [post(b"c" * 9000) + get() + LAST]


def _connections():
    yield "nothing", []
    yield "one byte", [b"G"]
    yield "half a line", [b"GET / HT"]
    yield "half a header", [b"GET / HTTP/1.1\r\nHost: exa"]
    yield "a CR", [b"\r"]
    yield "leading CRLFs", [b"\r\n" * 5 + get() + b"\r\n\n\r" + LAST]
    yield "CRLFs alone", [b"\r\n" * 3000]
    yield "CRLFs and a request", [b"\r\n" * 3000 + LAST]
    yield "bare LF", [b"GET / HTTP/1.1\nHost: a\nX: b\n\n", LAST.replace(b"\r", b"")]
    yield "one byte at a time", [bytes([b]) for b in get()]
    yield "two pieces", [get()[:30], get()[30:]]
    yield "keep-alive", [get(), ANSWERED, get(), ANSWERED, LAST]
    yield "keep-alive and silence", [get()]
    yield "keep-alive and half a line", [get(), ANSWERED, b"GET"]
    yield "pipeline", [get() * 10 + LAST]
    yield "pipeline over buffers", [get(b"X: " + b"p" * 400) * 20 + LAST]
    yield "pipeline of large ones", [get(b"X: " + b"p" * 5000) * 6 + LAST]
    yield "pipeline of large and small", [get(b"X: " + b"p" * 2000) + get(b"X: " + b"p" * 7000) * 5 + LAST]
    yield "pipeline and too large", [get() * 3 + get(*[b"X: " + b"z" * 7995 for _ in range(6)])]
    yield "pipeline behind close", [LAST + get()]
    yield "garbage behind close", [LAST + b"\x00" * 100]
    yield "more than a buffer behind close", [LAST + b"x" * 5000]
    yield "pipeline and bad", [get() + b"\x00"]
    yield "SSH second", [get(), ANSWERED, b"SSH-2.0-x\r\n"]
    yield "HTTP/1.0 keep-alive", [get(b"Connection: keep-alive", line=b"GET / HTTP/1.0"), ANSWERED, LAST]
    yield "HTTP/1.0 bare", [b"GET / HTTP/1.0\r\n\r\n"]
    yield "garbage", [bytes(range(256))]
    yield "a thousand requests", [get() * 1001]


def _slow():
    yield "a header in 55 s", [b"GET / HTTP/1.1\r\n", 20.0, b"Host: a\r\n", 20.0, b"X: y\r\n", 15.0, b"Connection: close\r\n\r\n"]
    yield "a header in more than 60 s", [b"GET / HTTP/1.1\r\n", 20.0, b"Host: a\r\n", 20.0, b"X: y\r\n", 15.0, b"Y: z\r\n"]
    yield "the second header slowly", [get(), ANSWERED, 10.0, b"GET / HTTP/1.1\r\n", 30.0, b"Host: a\r\n"]
    yield "the second request after 60 s", [get(), ANSWERED, 62.0, LAST]
    yield "a body slowly", [get(b"Content-Length: 10", line=b"POST / HTTP/1.1"), ANSWERED, 2.5, b"12345", 2.5, b"67890", LAST]
    yield "a body slowly and not to its end", [get(b"Content-Length: 10", line=b"POST / HTTP/1.1"), ANSWERED, 2.5, b"1234", 2.5, b"5"]
    yield "chunks slowly", [chunked(b"3\r\nab"), ANSWERED, 2.5, b"c\r\n0\r\n", 2.5, b"\r\n", LAST]


def staying_probes(full):
    """Who goes on sending behind an answer that is the last: when is he reset?"""
    large = get(b"Content-Length: 1048577", line=b"POST / HTTP/1.1")
    more = b"m" * 1000
    yield "goes on behind 413", [large, ANSWERED, *[2.5, more] * 3, 7.5, more, 2.5, more, 2.5, more]
    yield "goes on behind 413 at once", [large + more * 20, *[more * 20] * 20, 2.5, more, 7.5, more, 2.5, more]
    yield "goes on behind 400", [get(host=b"Host: a\r\nHost: b\r\n"), ANSWERED, 2.5, more, 2.5, more, 7.5, more, 2.5, more]
    yield "goes on behind Connection: close", [LAST, ANSWERED, 2.5, more, 2.5, more]
    yield "goes on behind a body and close", [get(b"Content-Length: 9000", CLOSE, line=b"POST / HTTP/1.1"), ANSWERED, *[2.5, more] * 3, 7.5, more, 2.5, more]
    if full:  # nginx counts its 30 s in whole ones, however short they are made
        yield "goes on for 30 s", [large, ANSWERED, *[4.0, more] * 7, *[4.0, more] * 3]


def http_probes():
    """Yields (name, pieces)."""
    yield from _connections()
    yield from _slow()
    for agent, value in AGENTS.items():
        yield f"agent {agent}", [get(b"User-Agent: " + value, CLOSE)]
        yield f"agent {agent}, HTTP/1.0", [get(b"User-Agent: " + value, line=b"GET / HTTP/1.0")]
    yield "chrome is refused", [get(b"User-Agent: Chrome/1", b"Host: b")]
    yield "chrome's TRACE", [get(b"User-Agent: Chrome/1", line=b"TRACE / HTTP/1.1")]
    for value in ENCODINGS:
        yield f"encoding {value!r}", [get(b"Accept-Encoding: " + value, CLOSE)]
    yield "encoding, HTTP/1.0", [get(b"Accept-Encoding: gzip", line=b"GET / HTTP/1.0")]
    yield "encoding, HEAD", [get(b"Accept-Encoding: gzip", CLOSE, line=b"HEAD / HTTP/1.1")]
    yield "encoding, bad", [get(b"Accept-Encoding: gzip", b"Content-Length: x")]
    for path in PATHS:
        yield f"path {path[:40]!r}", [get(CLOSE, line=b"GET " + path + b" HTTP/1.1")]
    for method in METHODS:
        yield f"method {method!r}", [get(CLOSE, line=method + b" /x HTTP/1.1")]
    for line in LINES:
        yield f"line {line!r}", [get(CLOSE, line=line)]
        yield f"line {line!r}, LF", [line + b"\n"]
    for host in HOSTS:
        yield f"host {host!r}", [get(CLOSE, host=host)]
    for field in FIELDS:
        yield f"field {field!r}", [get(field)]
        yield f"field {field!r} and more", [get(field) + LAST]
    yield from _sized()
    yield from _bodies()
