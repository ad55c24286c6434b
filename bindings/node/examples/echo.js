// SPDX-License-Identifier: MIT OR Apache-2.0
// A server and a client in one process: says hello through the tunnel and prints the answer.
//     node echo.js HOST_KEY IDENTITY AUTHORIZED_KEYS
'use strict';

const { connect, serve } = require('alknet-napi');

async function main([hostKey, identity, authorizedKeys]) {
	const server = await serve({ hostKey, authorizedKeys, listen: '127.0.0.1:0' });

	server.onConnection(({ stream, info }) => {
		console.log(`${info.identity.user} asks for ${info.destination}`);
		stream.pipe(stream);
	});
	const stream = await connect({ server: server.listenAddr, identity, user: 'me',
		destination: 'alknet-echo:1', knownHosts: '/dev/null', acceptNewHostKey: true });

	await stream.write(Buffer.from('hello'));
	console.log(String(await stream.read(1024)));
	await stream.close();
	await server.close();
}

main(process.argv.slice(2));
