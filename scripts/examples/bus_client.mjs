#!/usr/bin/env node
// SPDX-License-Identifier: MIT OR Apache-2.0
// A program on the bus: answers each event `ping:ID` with `pong:ID`, and prints both. docs/BUS.md.
// bus_client.mjs /run/alknet/bus.sock
import net from "node:net";

const bus = net.connect(process.argv[2]);
const say = (type, id, payload) => {
  const text = Buffer.from(JSON.stringify({ type, id, payload })), head = Buffer.alloc(4);
  head.writeUInt32BE(text.length);
  bus.write(Buffer.concat([head, text]));
};
let rest = Buffer.alloc(0);
bus.on("data", (data) => {
  rest = Buffer.concat([rest, data]);
  while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
    const event = JSON.parse(rest.subarray(4, 4 + rest.readUInt32BE(0)));
    rest = rest.subarray(4 + rest.readUInt32BE(0));
    console.log(JSON.stringify(event));
    if (event.type === "ping") say("pong", event.id, { to: event.payload });
  }
});
say("__subscribe", "mine", { topic: "ping" });
