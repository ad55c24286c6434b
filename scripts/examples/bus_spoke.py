#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""A spoke: serves /NAME/clock/now, which answers once, and /NAME/clock/count, which answers many times. docs/BUS.md.
bus_spoke.py /run/alknet/bus.sock NAME;   alknet call /NAME/clock/now;   alknet call /NAME/clock/count '{"to": 3}'"""
import json
import socket
import struct
import sys
import time

if len(sys.argv) != 3:
    sys.exit("usage: bus_spoke.py SOCKET NAME, such as bus_spoke.py /run/alknet/bus.sock clock1")
bus = socket.socket(socket.AF_UNIX)
bus.connect(sys.argv[1])
stream = bus.makefile("rb")


def say(type_, id_, payload):
    text = json.dumps({"type": type_, "id": id_, "payload": payload}).encode()
    bus.sendall(struct.pack(">I", len(text)) + text)


COUNT = {"type": "object", "properties": {"to": {"type": "integer", "minimum": 1, "maximum": 100}}, "required": ["to"]}
say("call.requested", "register", {"operationId": "/hub/services/register", "input": {"spoke": sys.argv[2], "operations": [
    {"name": "/clock/now", "op_type": "query"},
    {"name": "/clock/count", "op_type": "subscription", "input_schema": COUNT},
]}})
while head := stream.read(4):
    asked = json.loads(stream.read(struct.unpack(">I", head)[0]))
    if asked["type"] == "call.requested" and asked["payload"]["operationId"] == "/clock/now":
        say("call.responded", asked["id"], {"output": {"time": time.time()}})
    elif asked["type"] == "call.requested":
        for n in range(asked["payload"]["input"]["to"]):
            say("call.responded", asked["id"], {"output": n + 1})
        say("call.completed", asked["id"], {})
    else:
        print(json.dumps(asked), flush=True)
