// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const assert = require('assert');
const fs = require('fs');
const { once } = require('events');
const { setImmediate: turn } = require('timers/promises');
const test = require('node:test');
const h = require('./harness');

const aborted = { name: 'AbortError', code: 'ABORT_ERR' };

test('abort before, while dialing, in the handshake and while opening', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const connections = [];
	const silent = await h.tcpServer(t, (socket) => connections.push(socket));
	const waiting = await h.tcpServer(t, () => {});
	const reason = new Error('because');

	await assert.rejects(h.connect(h.clientOptions(server, { signal: AbortSignal.abort(reason) })),
		(error) => error.code === 'ABORT_ERR' && error.cause === reason);

	const dial = new AbortController();
	const dialing = h.connect(h.clientOptions(server, { signal: dial.signal }));

	dial.abort();
	await assert.rejects(dialing, aborted);

	const handshake = new AbortController();
	const shaking = h.connect(h.clientOptions(`127.0.0.1:${silent}`, { signal: handshake.signal }));

	while (connections.length === 0)
		await turn();
	await once(connections[0], 'data'); // the client's version
	handshake.abort();
	await assert.rejects(shaking, aborted);
	connections[0].resume();
	await once(connections[0], 'end');

	// The server answers only when its target is connected: a name that is asked for over a proxy that waits.
	const proxied = await h.serving(t, { proxy: `http://127.0.0.1:${waiting}` });
	const open = new AbortController();
	const opening = h.connect(h.clientOptions(proxied, { destination: 'example.test:80', signal: open.signal }));

	while ((await proxied.sessions())[0]?.channels !== 1)
		await turn();
	open.abort();
	await assert.rejects(opening, aborted);
	while ((await proxied.sessions()).length > 0)
		await turn();
});

test('abort afterwards does nothing, and leaves no listener', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const controller = new AbortController();
	let listeners = 0;
	const { signal } = controller;
	const [add, remove] = [signal.addEventListener, signal.removeEventListener];

	signal.addEventListener = (...args) => (listeners++, add.apply(signal, args));
	signal.removeEventListener = (...args) => (listeners--, remove.apply(signal, args));
	const stream = await h.connected(t, server, { signal });

	assert.strictEqual(listeners, 0);
	controller.abort();
	await stream.write('x');
	assert.strictEqual(String(await stream.read(1)), 'x');
});

test('abort of one stream is not the session\'s', async (t) => {
	const waiting = await h.tcpServer(t, () => {});
	const server = await h.serving(t, { proxy: `http://127.0.0.1:${waiting}` }, h.echo);
	const stream = await h.connected(t, server);
	const controller = new AbortController();
	const other = stream.open('example.test:1', { signal: controller.signal });

	controller.abort();
	await assert.rejects(other, aborted);
	await assert.rejects(stream.open('example.test:1', { signal: AbortSignal.abort() }), aborted);
	await stream.write('x');
	assert.strictEqual(String(await stream.read(1)), 'x');
});

test('a session ends with its last stream', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const first = await h.connect(h.clientOptions(server));
	const second = await first.open('alknet-echo:1');
	const ends = once(first.session, 'close');

	assert.strictEqual(first.session, second.session);
	assert.ok(first.session.connected);
	await first.close();
	await second.write('x');
	assert.strictEqual(String(await second.read(1)), 'x');
	await second.close();
	await ends;
	await assert.rejects(second.open('alknet-echo:1'), { code: 'ERR_ALKNET_CLOSED' });
	assert.ok(second.session.closed);
});

test('session.close ends its streams', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connect(h.clientOptions(server));

	await Promise.all([stream.session.close(), stream.session.close()]);
	assert.ok(stream.closed);
});

test('reconnect: another session, and open() waits for it', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connect(h.clientOptions(server, { reconnect: true }));
	const { session } = stream;

	t.after(() => session.close());
	const down = once(session, 'down');
	const gone = new Promise((resolve) => stream.on('close', resolve));

	await server.kill((await server.sessions())[0].id);
	const [error] = await down;

	assert.strictEqual(error.code, 'ERR_ALKNET_CLOSED');
	await gone;
	await assert.rejects(stream.read(1), { code: 'ERR_ALKNET_CLOSED' });
	assert.ok(!session.connected);
	const again = await session.open('alknet-echo:1'); // it comes by itself

	assert.ok(session.connected);
	await again.write('x');
	assert.strictEqual(String(await again.read(1)), 'x');
	await again.close();
	assert.ok(!session.closed); // without a stream, too
});

// A session that reconnects, whose server went for good.
async function lonely(t) {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connect(h.clientOptions(server, { reconnect: true }));
	const down = once(stream.session, 'down');

	t.after(() => stream.session.close());
	stream.on('error', () => {});
	await server.close();
	await down;
	return stream.session;
}

test('reconnect: of a stream that is given up while it waits nothing is left', async (t) => {
	const session = await lonely(t);
	const controller = new AbortController();
	const event = h.AlknetStream.prototype._event;
	let gone = 0;

	t.after(() => { h.AlknetStream.prototype._event = event; });
	h.AlknetStream.prototype._event = function (kind, ...args) {
		gone += kind === 'gone';
		event.call(this, kind, ...args);
	};
	const opening = [1, 2, 3].map((n) => session.open(`alknet-echo:${n}`, n === 2 ? {} : { signal: controller.signal }));

	controller.abort();
	await assert.rejects(opening[0], aborted);
	await assert.rejects(opening[2], aborted);
	while (gone < 2)
		await turn();
	await session.close();
	await assert.rejects(opening[1], { code: 'ERR_ALKNET_CLOSED' });
});

test('reconnect: so many wait for a session and no more', async (t) => {
	const session = await lonely(t);
	const controllers = Array.from({ length: 256 }, () => new AbortController());
	let settled = 0;
	const opening = controllers.map(({ signal }) => session.open('alknet-echo:1', { signal }).catch((error) => {
		settled++;
		return error.code;
	}));

	await assert.rejects(session.open('alknet-echo:1'),
		{ code: 'ERR_ALKNET_CONNECT', reason: 'resource shortage', message: /too many streams wait/ });
	assert.strictEqual(settled, 0);
	controllers[100].abort();
	assert.strictEqual(await opening[100], 'ABORT_ERR');
	// There is a place again, and for one alone.
	const one = session.open('alknet-echo:1').catch(() => settled++);

	await assert.rejects(session.open('alknet-echo:1'), { reason: 'resource shortage' });
	assert.strictEqual(settled, 1);
	await session.close();
	await one;
	assert.strictEqual((await Promise.all(opening)).filter((code) => code === 'ERR_ALKNET_CLOSED').length, 255);
});

test('reconnect: open() ends in time also where the loss was not heard of yet', async (t) => {
	const { address, run } = await h.alknetServe(t);
	const stream = await h.connect(h.clientOptions(address, { reconnect: true }));
	const { session } = stream;
	let known = false;

	t.after(() => session.close());
	stream.on('error', () => {});
	session.on('down', () => { known = true; });
	h.impatient(t, 10000);
	const port = Number(address.split(':')[1]).toString(16).toUpperCase().padStart(4, '0');
	const ours = new RegExp(`^ *\\d+: \\S+ \\S+:${port} 0[18] `, 'm'); // established, or the other end alone has closed
	const open = () => ours.test(fs.readFileSync('/proc/self/net/tcp', 'latin1'));
	const pause = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

	assert.ok(open());
	run.child.kill('SIGKILL');
	// Meanwhile the loop hears of it, and closes its socket.
	for (let i = 0; open(); i++) {
		assert.ok(i < 600, 'the loop does not hear of it');
		pause(50);
	}
	pause(1000);
	assert.ok(session.connected);
	const opening = session.open('alknet-control:1');

	assert.ok(!known);
	await assert.rejects(opening, { code: 'ERR_ALKNET_TIMEOUT', message: /no session for 10 s/ });
	assert.ok(known);
});

test('without reconnect a session that is killed is over', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);
	const reads = stream.read(1);

	await server.kill((await server.sessions())[0].id);
	await assert.rejects(reads, { code: 'ERR_ALKNET_CLOSED' });
	await assert.rejects(stream.open('alknet-echo:1'), { code: 'ERR_ALKNET_CLOSED' });
});

test('open checks what it is given', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);

	for (const args of [[1], ['x'], ['x:1', 1], ['x:1', null], ['x:1', { signal: 1 }]])
		await assert.rejects(stream.open(...args), { code: 'ERR_ALKNET_CONFIG' });
});
