# SPDX-License-Identifier: MIT OR Apache-2.0
"""A long or narrow link on loopback: relays TCP with a delay each way and at most so many bytes a second.

    relay.py PORT DELAY-MS [MBIT]      listens on a free port, which it prints, and goes on to PORT"""

import asyncio
import collections
import socket
import sys

PIECE = 1 << 18
# Small pieces where the rate counts, so that they leave evenly.
NARROW_PIECE = 1 << 14
# The link itself never pushes back: what is under way on it is what the ends let be.
BUFFER = 1 << 26


class Direction:
    def __init__(self, reader, writer, delay, rate):
        self.reader, self.writer, self.delay, self.rate = reader, writer, delay, rate
        self.pieces = collections.deque()
        self.news = asyncio.Event()

    async def take(self):
        loop = asyncio.get_running_loop()
        free = 0
        data = True
        while data:
            data = await self.reader.read(NARROW_PIECE if self.rate else PIECE)
            if self.rate:
                free = max(free, loop.time()) + len(data) / self.rate
                await asyncio.sleep(free - loop.time())
            self.pieces.append((loop.time() + self.delay, data))
            self.news.set()

    async def give(self):
        loop = asyncio.get_running_loop()
        while True:
            while not self.pieces:
                self.news.clear()
                await self.news.wait()
            when, data = self.pieces.popleft()
            await asyncio.sleep(when - loop.time())
            if not data:
                self.writer.write_eof()
                return
            self.writer.write(data)
            await self.writer.drain()

    async def run(self):
        await asyncio.gather(self.take(), self.give())


async def relay(reader, writer, port, delay, rate):
    onward = await asyncio.open_connection("127.0.0.1", port, limit=PIECE * 2)
    for end in (writer, onward[1]):
        end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.transport.set_write_buffer_limits(BUFFER)
    ways = (Direction(reader, onward[1], delay, rate), Direction(onward[0], writer, delay, rate))
    tasks = [asyncio.create_task(way.run()) for way in ways]
    try:
        await asyncio.gather(*tasks)
    except OSError:
        pass  # an end is gone: the other one learns of it below
    finally:
        for task in tasks:
            task.cancel()
        writer.close()
        onward[1].close()


async def serve(port, delay, rate):
    server = await asyncio.start_server(lambda r, w: relay(r, w, port, delay, rate), "127.0.0.1", 0, limit=PIECE * 2)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000, float(sys.argv[3]) * 1e6 / 8 if len(sys.argv) > 3 else None))
