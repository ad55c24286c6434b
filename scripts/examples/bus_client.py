#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""A program on the bus: answers each event `ping:ID` with `pong:ID`, and prints both. docs/BUS.md.
bus_client.py /run/alknet/bus.sock"""
import json
import socket
import struct
import sys

bus = socket.socket(socket.AF_UNIX)
bus.connect(sys.argv[1])
stream = bus.makefile("rb")


def say(type_, id_, payload):
    text = json.dumps({"type": type_, "id": id_, "payload": payload}).encode()
    bus.sendall(struct.pack(">I", len(text)) + text)


say("__subscribe", "mine", {"topic": "ping"})
while head := stream.read(4):
    event = json.loads(stream.read(struct.unpack(">I", head)[0]))
    print(json.dumps(event), flush=True)
    if event["type"] == "ping":
        say("pong", event["id"], {"to": event["payload"]})
