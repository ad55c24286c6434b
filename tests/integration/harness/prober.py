# SPDX-License-Identifier: MIT OR Apache-2.0
"""Says something to a TLS server and writes down all that can be seen of what it does: the bytes, the records they
came in, alerts, how the connection ended, and when. Many at a time, in one loop; but few of them begin at once, so that
this program is no slower to see and to say something than the servers are to wait for it."""

import asyncio
import re
import resource
import socket
import ssl
import time
from dataclasses import dataclass, field

DATE = re.compile(rb"\r\nDate: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n")
ALERT, HANDSHAKE, APPLICATION = 21, 22, 23


@dataclass
class Seen:
    plain: bytes = b""  # what was said, without the dates
    records: list = field(default_factory=list)  # (type, length) of all that came
    hello: list = None  # the ServerHello
    ticket: int = None  # for how long the last ticket is good, s
    handshake: str = "none"  # "none", "done" and what was agreed, or what OpenSSL says
    ended: str = ""  # close_notify or not, then FIN or RST
    seconds: float = 0  # until it ended, from the connection's begin
    quiet: float = 0  # until it ended, from the last byte that was sent or came
    silent: float = 0  # until it ended, from the last byte that came, or the begin
    late: float = 0  # by how much a pause was longer than it should have been, s, at most
    taken: int = 0  # of who goes on talking behind the end: how many pieces went out before he was reset


def records_of(raw):
    """Cut into TLS records. What is not TLS is one record of type 0."""
    found = []
    while raw:
        if len(raw) < 5 or raw[0] not in (20, ALERT, HANDSHAKE, APPLICATION) or raw[1] != 3:
            return [*found, (0, len(raw))]
        n = 5 + int.from_bytes(raw[3:5], "big")
        found.append((raw[0], n) if raw[0] != ALERT or n != 7 else (raw[0], n, raw[5], raw[6]))
        raw = raw[n:]
    return found


def server_hello(raw):
    """What of a ServerHello is no random number: version, cipher, and its extensions in their order."""
    if raw[:1] != b"\x16" or raw[5:6] != b"\x02":
        return None
    body = raw[9 : 9 + int.from_bytes(raw[6:9], "big")]
    at = 35 + body[34]
    shape = [body[:2].hex(), body[34], body[at : at + 3].hex()]
    at += 5
    while at + 4 <= len(body):
        n = int.from_bytes(body[at + 2 : at + 4], "big")
        shape.append((int.from_bytes(body[at : at + 2], "big"), n))
        at += 4 + n
    return shape


def context(alpn=("http/1.1",), version=None, session=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if alpn:
        made.set_alpn_protocols(list(alpn))
    if version is not None:
        made.minimum_version = made.maximum_version = version
    return made


class Prober:
    """One connection. `tls` is None for bytes as they are. Who `stays` says all he has to say, whatever he hears. A number
    among the pieces is a pause, in seconds divided by `scale`."""

    def __init__(self, port, tls=None, name=None, stays=False, scale=1):
        self.port, self.seen, self.stays, self.scale = port, Seen(), stays, scale
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls.wrap_bio(self.incoming, self.outgoing, server_hostname=name) if tls else None
        self.raw, self.notified = b"", False
        self.more = asyncio.Event()

    async def open(self):
        self.loop = asyncio.get_running_loop()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = self.last = self.heard = time.monotonic()
        await self.loop.sock_connect(self.sock, ("127.0.0.1", self.port))

    async def flush(self):
        try:
            await self.loop.sock_sendall(self.sock, self.outgoing.read())
            self.last = time.monotonic()
            self.seen.taken += self.stays
        except OSError:
            pass  # how it ended is what reading finds

    async def read(self):
        """False when it has ended."""
        try:
            got = await self.loop.sock_recv(self.sock, 65536)
            self.raw += got
            if got:
                self.last = self.heard = time.monotonic()
                self.incoming.write(got)
                return True
            end = "FIN"
        except ConnectionResetError:
            end = "RST"
        now = time.monotonic()
        self.seen.seconds, self.seen.quiet, self.seen.silent = now - self.begun, now - self.last, now - self.heard
        self.seen.ended = ("close_notify, " if self.notified else "") + end
        return False

    async def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                await self.flush()
                self.seen.handshake = f"done {self.tls.version()} {self.tls.cipher()[0]} {self.tls.selected_alpn_protocol()}"
                return True
            except ssl.SSLWantReadError:
                await self.flush()
            except ssl.SSLError as error:
                await self.flush()
                self.seen.handshake = error.reason or str(error)
                while await self.read():
                    pass
                return False
            if not await self.read():
                return False

    def decrypt(self):
        if self.tls is None:
            self.seen.plain = self.raw
            return
        while not self.notified:
            try:
                got = self.tls.read(65536)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                got = b""
            except ssl.SSLError as error:
                self.seen.handshake += " " + (error.reason or "")
                return
            self.notified = got == b""
            self.seen.plain += got

    async def send(self, pieces):
        for piece in pieces:
            if piece is None:
                await self.more.wait()
                continue
            if isinstance(piece, float):
                begun = time.monotonic()
                await asyncio.sleep(piece / self.scale)  # a client that is slow: what is tried, not what is waited for
                self.seen.late = max(self.seen.late, time.monotonic() - begun - piece / self.scale)
                continue
            self.more.clear()
            # A tuple is several records that go out together: the server's answer to the first cannot overtake the others.
            for part in piece if isinstance(piece, tuple) else (piece,):
                (self.outgoing if self.tls is None else self.tls).write(part)
            await self.flush()

    async def begin(self, gate):
        async with gate:
            await self.open()
            return self.tls is None or await self.handshake()

    async def run(self, gate, pieces, half_close=False):
        if await self.begin(gate):
            sending = asyncio.create_task(self.say(pieces, half_close))
            self.decrypt()
            while await self.read():
                before = len(self.seen.plain)
                self.decrypt()
                if len(self.seen.plain) > before:
                    self.more.set()
            if self.notified and "close_notify" not in self.seen.ended:
                self.seen.ended = "close_notify, " + self.seen.ended
            self.more.set()
            if not self.stays:
                sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        self.sock.close()
        if self.raw[:1] in (b"\x15", b"\x16"):
            self.seen.records = records_of(self.raw)
            self.seen.hello = server_hello(self.raw)
        if self.tls is None and self.seen.records:
            self.seen.plain = b""
        if self.seen.handshake.startswith("done") and self.tls.session is not None:
            self.seen.ticket = self.tls.session.ticket_lifetime_hint
        self.seen.plain = DATE.sub(b"\r\nDate: .\r\n", self.seen.plain)
        return self.seen

    async def say(self, pieces, half_close):
        await self.send(pieces[:-1])
        if half_close:
            # The last words and FIN in one segment: else it is chance whether the server sees them together.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        await self.send(pieces[-1:])
        if half_close == "close_notify":
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass
            await self.flush()
        if half_close:
            self.sock.shutdown(socket.SHUT_WR)


async def _all(probes, ports, begins):
    gate = asyncio.Semaphore(begins)
    return await asyncio.gather(*[asyncio.gather(*[probe.run(port, gate) for port in ports]) for probe in probes])


def run_all(probes, ports, begins=24):
    """Each probe against each port. Returns a tuple of Seen for each probe."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asyncio.run(_all(probes, ports, begins))
