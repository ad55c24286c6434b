// SPDX-License-Identifier: MIT OR Apache-2.0
// Not run: tsc has to find that it fits, and that what is wrong does not.
import { AlknetError, AlknetEvent, CallError, connect, createEventTarget, serve, Server } from 'alknet-napi';

async function client(signal: AbortSignal): Promise<void> {
	const stream = await connect({
		server: 'example.com:22', transport: 'tcp', identity: Buffer.from('...'), certificate: '/path', passphrase: 'x', user: 'me',
		tlsServerName: 'example.com', insecure: false, irohRelay: 'none', proxy: 'socks5://127.0.0.1:1080', knownHosts: '/path',
		hostKeyFingerprint: 'SHA256:...', destination: 'db:5432', signal, keepalive: 15000, reconnect: true, settings: { max_channels: 10 },
	});
	const data: Buffer = await stream.read(1024);

	await stream.write(data);
	const more: boolean = stream.write('x', () => {});
	const where: string = stream.info.destination;

	for await (const chunk of stream)
		console.log(chunk, more, where);
	process.stdin.pipe(stream).pipe(process.stdout);
	await (await stream.open('other:1', { signal })).close();
	await stream.session?.close();
	// @ts-expect-error there is no such option
	await connect({ servr: 'x' });
	// @ts-expect-error not a text
	await connect({ server: 1 });
	// @ts-expect-error not a function
	stream.close.promise();
}

async function server(): Promise<Server> {
	const made = await serve({
		transport: 'tls', hostKey: ['/path', Buffer.from('...')], authorizedKeys: '/path', certAuthority: Buffer.from('...'), tlsCert: '/path',
		tlsKey: '/path', acmeDomain: ['example.com'], stealth: true, listen: '0.0.0.0:443', irohRelay: 'none', proxy: 'none', policy: '/path',
		services: ['bus'],
	});

	made.onConnection(({ stream, info }) => {
		const user: string | null | undefined = info.identity?.user;

		stream.end(user);
	});
	made.on('session', (event) => console.log(event.type, event.id));
	await made.reloadAuth({ authorizedKeys: Buffer.from('...') });
	await made.reloadForwarding({ default: 'deny', rules: [{ allow: '*.example.com:443' }] });
	await made.reloadAll();
	for (const { id, user } of await made.sessions())
		if (user === 'x')
			await made.kill(id);
	console.log(made.endpointId, made.listenAddr);
	// @ts-expect-error only these two
	await made.reloadForwarding({ default: 'perhaps' });
	// @ts-expect-error a server has a host key
	await serve({ authorizedKeys: '/path' });
	return made;
}

async function bus(web: { readable: ReadableStream; writable: WritableStream }): Promise<void> {
	const node = createEventTarget({ stream: await connect({ server: 'x' }) });
	const target = createEventTarget({ stream: web });

	target.addEventListener('a.b', (event) => console.log(event.topic, event.id, event.detail));
	target.dispatchEvent(new CustomEvent('a.b', { detail: 1 }));
	for await (const { type, payload } of target.subscribe<number>('a.>', { group: 'g' }))
		console.log(type, payload + 1);
	for (const replay of ['last' as const, 'all' as const, new Date(), 1])
		await target.subscribe('a.>', { replay }).ready;
	// @ts-expect-error there is no such word
	target.subscribe('a.>', { replay: 'first' });
	const sum = await node.call<number>('/dev1/math/add', { x: 1 }, { timeout: 1000 });

	await node.register('dev1', { '/math/add': ({ x, y }) => x + y + sum, '/math/count': { type: 'subscription', handler: async function* () { yield 1; } } });
	await node.close();
}

function why(error: unknown): string {
	if (error instanceof AlknetError && error.code === 'ERR_ALKNET_AUTH')
		return 'auth';
	if (error instanceof CallError && error.retryable)
		return error.code;
	return error instanceof AlknetEvent ? error.topic : '';
}

export { bus, client, server, why };
