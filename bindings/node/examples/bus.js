// SPDX-License-Identifier: MIT OR Apache-2.0
// A client of the bus: prints the events of a topic. With a third word it publishes one.
//     node bus.js SERVER IDENTITY TOPIC [JSON]
'use strict';

const { connect, createEventTarget } = require('alknet-napi');

async function main([server, identity, topic, json]) {
	const bus = createEventTarget({ stream: await connect({ server, identity }) });

	if (json !== undefined) {
		await bus.publish(topic, JSON.parse(json));
		return bus.close();
	}
	for await (const { type, payload } of bus.subscribe(topic))
		console.log(type, JSON.stringify(payload));
}

main(process.argv.slice(2));
