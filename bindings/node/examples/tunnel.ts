// SPDX-License-Identifier: MIT OR Apache-2.0
// A port here that leads to one behind the server.
import { createServer } from 'net';
import { connect } from 'alknet-napi';

async function tunnel(server: string, identity: string, destination: string): Promise<number> {
	const first = await connect({ server, identity, reconnect: true });
	const listener = createServer(async (socket) => {
		try {
			const stream = await first.session!.open(destination);

			socket.pipe(stream).pipe(socket);
			stream.on('error', () => socket.destroy());
			socket.on('error', () => stream.destroy());
		} catch (error) {
			socket.destroy(error as Error);
		}
	});

	await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
	return (listener.address() as { port: number }).port;
}

export { tunnel };
