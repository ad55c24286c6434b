// SPDX-License-Identifier: MIT OR Apache-2.0
// An iroh endpoint that is not alknet's, with the npm package @number0/iroh (IROH_NPM is its directory).
//   open ID ADDR:PORT    opens a stream, says what an SSH client says first, and prints what comes
//   serve PORT           takes connections and hands each on to a TCP port of this machine; prints its id and address
"use strict";

const net = require("node:net");
const { Endpoint, EndpointAddr, EndpointId, presetMinimal, RelayMode } = require(process.env.IROH_NPM);

const ALPN = [...Buffer.from("alknet-ssh")];

async function endpoint() {
	const builder = Endpoint.builder();

	presetMinimal(builder);
	builder.relayMode(RelayMode.disabled());
	builder.alpns([ALPN]);
	builder.bindAddr("127.0.0.1:0");
	return builder.bind();
}

async function open(id, address) {
	const here = await endpoint();
	const conn = await here.connect(new EndpointAddr(EndpointId.fromString(id), null, [address]), ALPN);
	const stream = await conn.openBi();

	await stream.send.writeAll([...Buffer.from("SSH-2.0-elsewhere_1\r\n")]);
	console.log("heard " + Buffer.from(await stream.recv.read(4096)).toString("latin1").split("\r\n")[0]);
	conn.close(0n, []);
	await here.close();
}

async function carry(recv, socket) {
	for (;;) {
		const bytes = Buffer.from(await recv.read(65536));

		if (bytes.length === 0) {
			socket.end();
			return;
		}
		if (!socket.write(bytes))
			await new Promise((resolve) => socket.once("drain", resolve));
	}
}

async function bridge(conn, port) {
	const stream = await conn.acceptBi();
	const socket = net.connect(port, "127.0.0.1");

	carry(stream.recv, socket).catch(() => socket.destroy());
	for await (const bytes of socket)
		await stream.send.writeAll([...bytes]);
	await stream.send.finish();
}

async function serve(port) {
	const here = await endpoint();

	console.log("serving " + here.id().toString() + " " + here.boundSockets().find((one) => one.startsWith("127.")));
	for (;;) {
		const incoming = await here.acceptNext();

		if (incoming === null)
			return;
		const conn = await (await incoming.accept()).connect();

		console.log("from " + conn.remoteId().toString());
		bridge(conn, port).catch((error) => console.log("ended " + error));
	}
}

const [what, ...words] = process.argv.slice(2);

(what === "open" ? open(...words) : serve(Number(words[0]))).then(
	() => process.exit(0),
	(error) => {
		console.error(error);
		process.exit(1);
	},
);
