# SPDX-License-Identifier: MIT OR Apache-2.0
"""One channel at alknet-control, frame by frame."""

import json
import os
import struct

from . import sshwire

CONTROL = "alknet-control"


def frame(envelope):
    text = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
    return struct.pack(">I", len(text)) + text


def unpack(data):
    """All whole frames in these bytes."""
    found = []
    while len(data) >= 4 and len(data) >= 4 + struct.unpack(">I", data[:4])[0]:
        n = struct.unpack(">I", data[:4])[0]
        found.append(json.loads(data[4 : 4 + n]))
        data = data[4 + n :]
    return found


def error(answer, code, id_=None, type_="error"):
    """That it is one, of this code; gives its sentence."""
    assert answer["type"] == type_ and answer["payload"]["code"] == code, answer
    assert id_ is None or answer["id"] == id_
    return answer["payload"]["message"]


def failed(answer, code, id_="1"):
    """The same of a call."""
    return error(answer, code, id_, "call.error")


def either(answer, code, id_=None):
    """The same of a frame or of a call."""
    return error(answer, code, id_, "call.error" if answer["type"] == "call.error" else "error")


class Peer:
    """`wire` is a logged-in sshwire.Wire that has this channel alone."""

    def __init__(self, wire, window=1 << 30):
        self.wire, self.buffer = wire, bytearray()
        opened = wire.open_channel(0, CONTROL, 0, window)
        assert opened, "alknet-control was refused"
        self.channel = opened[0]
        self.closed = False

    def raw(self, data):
        for at in range(0, len(data), 32000):
            self.wire.data(self.channel, data[at : at + 32000])

    def send(self, type_, id_="", payload=None):
        self.raw(frame({"type": type_, "id": id_, "payload": payload if payload is not None else {}}))

    def fill(self):
        fields = sshwire.Reader(self.wire.expect(sshwire.DATA, sshwire.CLOSE))
        if fields.byte() == sshwire.CLOSE:
            self.closed = True
            raise EOFError("the channel closed")
        fields.u32()
        self.buffer += fields.string()

    def next(self):
        while len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack(">I", self.buffer[:4])[0]:
            self.fill()
        n = struct.unpack(">I", self.buffer[:4])[0]
        text = bytes(self.buffer[4 : 4 + n])
        del self.buffer[: 4 + n]
        return json.loads(text)

    def window(self, n):
        self.wire.send(bytes([sshwire.WINDOW_ADJUST]) + sshwire.u32(self.channel) + sshwire.u32(n))

    def end(self):
        self.wire.send(bytes([sshwire.EOF]) + sshwire.u32(self.channel))

    def wait_close(self):
        try:
            while True:
                self.fill()
        except EOFError:
            return

    # Words of the bus.

    def subscribe(self, topic, ref=None, **more):
        ref = ref or topic
        self.send("__subscribe", ref, {"topic": topic, **more})
        answer = self.next()
        assert answer == {"type": "__ok", "id": ref, "payload": {}}, answer
        return self

    def sync(self):
        """All that was sent before has been worked on, and nothing else came meanwhile: gives what did."""
        came, ref = [], "sync-" + os.urandom(4).hex()
        self.send("__unsubscribe", ref)
        while (one := self.next())["id"] != ref:
            came.append(one)
        return came

    def request(self, operation, input_=None, id_="1", **more):
        self.send("call.requested", id_, {"operationId": operation, "input": input_ if input_ is not None else {}, **more})

    def call(self, operation, input_=None, id_="1", **more):
        self.request(operation, input_, id_, **more)
        return self.next()

    def respond(self, id_, output):
        self.send("call.responded", id_, {"output": output})

    def output(self):
        """Of a call; the next frame must be its answer."""
        one = self.next()
        assert one["type"] == "call.responded" and list(one["payload"]) == ["output"], one
        return one["payload"]["output"]

    def get(self, operation, input_=None, **more):
        self.request(operation, input_, **more)
        return self.output()

    def register(self, spoke, *operations):
        operations = [one if isinstance(one, dict) else {"name": one} for one in operations]
        return self.call("/hub/services/register", {"spoke": spoke, "operations": operations}, "register")
