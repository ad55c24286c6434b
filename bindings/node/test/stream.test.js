// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const assert = require('assert');
const crypto = require('crypto');
const { once } = require('events');
const { Duplex, Readable, pipeline } = require('stream');
const { pipeline: piped } = require('stream/promises');
const test = require('node:test');
const { resolvers } = require('../lib/session');
const h = require('./harness');

const BULK = process.env.ALKNET_NODE_FULL ? 2 ** 30 : 32 * 2 ** 20;
const STREAMS = 1000;

test('a stream is read, written and closed by promises', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);

	await stream.write(Buffer.from('hello'));
	assert.strictEqual(String(await stream.read(1024)), 'hello');
	await stream.write('more than it asks for');
	assert.strictEqual(String(await stream.read(4)), 'more');
	assert.strictEqual(String(await stream.read(1)), ' ');
	assert.strictEqual(String(await stream.read(1024)), 'than it asks for');
	stream.end();
	assert.strictEqual((await stream.read(1024)).length, 0);
	assert.strictEqual((await stream.read(1024)).length, 0);
	await stream.close();
	await stream.close();
	await assert.rejects(stream.write('x'), { code: 'ERR_ALKNET_CLOSED' });
});

test('reads wait in their order', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);
	const reads = [stream.read(2), stream.read(2), stream.read(100)];

	await stream.write('abcdef');
	assert.deepStrictEqual((await Promise.all(reads)).map(String), ['ab', 'cd', 'ef']);
	const left = [stream.read(1), stream.read(1)];

	stream.end();
	assert.deepStrictEqual((await Promise.all(left)).map((part) => part.length), [0, 0]);
});

test('what cannot be read or written is told', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);

	for (const n of [-1, 1.5, NaN, Infinity, '1', null])
		await assert.rejects(async () => stream.read(n), { name: 'TypeError', code: 'ERR_ALKNET_CONFIG' });
	for (const chunk of [undefined, null, 1, {}, []])
		await assert.rejects(stream.write(chunk), { name: 'TypeError', code: 'ERR_ALKNET_CONFIG' });
	assert.throws(() => stream.pipe(null));
	const read = stream.read(1);

	stream.destroy();
	await assert.rejects(read, { code: 'ERR_ALKNET_CLOSED' });
	await assert.rejects(stream.read(1), { code: 'ERR_ALKNET_CLOSED' });
	await assert.rejects(stream.write('x'), { code: 'ERR_ALKNET_CLOSED' });
});

test('it is a Duplex: data, end, finish, close', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);
	const parts = [];

	assert.ok(stream instanceof Duplex);
	stream.on('data', (part) => parts.push(part));
	stream.write('one ', 'utf8', () => parts.push('taken'));
	stream.end('two');
	await Promise.all(['end', 'finish', 'close'].map((event) => once(stream, event)));
	assert.strictEqual(String(Buffer.concat(parts.filter(Buffer.isBuffer))), 'one two');
	assert.ok(parts.includes('taken'));
	assert.ok(stream.destroyed && stream.closed);
});

test('for await, pipe and pipeline', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const total = 3 * 2 ** 20;

	const first = await h.connected(t, server);
	Readable.from(h.bytes(total)).pipe(first);
	assert.strictEqual(crypto.createHash('sha256').update(await h.readAll(first)).digest('hex'),
		h.digest(total));

	const second = await h.connected(t, server);
	const hash = crypto.createHash('sha256');

	await piped(() => h.bytes(total), second, async (source) => {
		for await (const part of source)
			hash.update(part);
	});
	assert.strictEqual(hash.digest('hex'), h.digest(total));
});

test('half-close goes both ways', async (t) => {
	const seen = [];
	const server = await h.serving(t, {}, async ({ stream }) => {
		seen.push(String(await stream.read(100)));
		seen.push((await stream.read(100)).length);
		// Our end is still open: the peer hears after its own end.
		await stream.write('answer after the end');
		stream.end();
	});
	const stream = await h.connected(t, server);

	await stream.write('question');
	stream.end();
	assert.strictEqual(String(await h.readAll(stream)), 'answer after the end');
	assert.deepStrictEqual(seen, ['question', 0]);
});

test('the other end goes first, and what it sent is read', async (t) => {
	const server = await h.serving(t, {}, ({ stream }) => {
		stream.end('last words');
		stream.resume();
	});
	const stream = await h.connected(t, server);

	assert.strictEqual(String(await stream.read(100)), 'last words');
	assert.strictEqual((await stream.read(100)).length, 0);
	await stream.write('still taken');
	await stream.close();
});

test('destroy(err) on either side', async (t) => {
	const ends = [];
	const server = await h.serving(t, {}, ({ stream }) => {
		stream.on('error', () => {});
		stream.resume();
		ends.push(new Promise((resolve) => stream.on('close', resolve)));
	});
	const stream = await h.connected(t, server);
	const error = new Error('enough');
	const seen = once(stream, 'error');

	await stream.write('x');
	stream.destroy(error);
	assert.strictEqual((await seen)[0], error);
	await Promise.all(ends);

	const silent = await h.connected(t, server);
	const read = silent.read(1);

	silent.destroy(error); // nobody listens, and nobody is hit by it but the reader
	await assert.rejects(read, error);
	await once(silent, 'close');
});

test(`${BULK / 2 ** 20} MiB each way, with a checksum`, async (t) => {
	const up = [];
	const server = await h.serving(t, {}, async ({ stream }) => {
		const hash = crypto.createHash('sha256');
		const sent = piped(() => h.bytes(BULK), stream, { end: true });

		stream.on('data', (part) => hash.update(part));
		up.push(once(stream, 'end').then(() => hash.digest('hex')));
		await sent.catch(() => {});
	});
	const stream = await h.connected(t, server);
	const hash = crypto.createHash('sha256');

	stream.on('data', (part) => hash.update(part));
	const ended = once(stream, 'end');

	pipeline(Readable.from(h.bytes(BULK)), stream, () => {});
	await ended;
	const want = h.digest(BULK);

	assert.strictEqual(hash.digest('hex'), want);
	assert.strictEqual(await up[0], want);
});

test('a reader that stops stops its writer and no other', async (t) => {
	const streams = [];
	const server = await h.serving(t, {}, ({ stream, info }) => {
		stream.on('error', () => {});
		if (info.destination === 'alknet-stopped:1')
			streams.push(stream); // not read
		else
			stream.pipe(stream);
	});
	const stopped = await h.connected(t, server, { destination: 'alknet-stopped:1' });
	const other = await stopped.open('alknet-echo:1');
	const chunk = Buffer.alloc(65536, 1);
	let taken = 0;
	let waits = false;
	const writing = (async () => {
		for (let i = 0; i < 4096; i++) {
			const write = stopped.write(chunk);

			waits = true;
			await write;
			waits = false;
			taken += chunk.length;
		}
	})();

	// Everything between the two ends fills; then a write waits, while the other stream goes on.
	let before = -1;

	while (!waits || taken !== before || streams.length === 0) {
		before = taken;
		for (let i = 0; i < 20; i++) {
			await other.write('still here');
			assert.ok((await other.read(100)).length > 0);
		}
	}
	assert.ok(taken < 16 * 2 ** 20, `${taken} bytes were taken`);
	let read = 0;

	streams[0].on('data', (part) => { read += part.length; });
	await writing;
	stopped.end();
	await once(streams[0], 'end');
	assert.strictEqual(read, 4096 * chunk.length);
});

test('what was written before the last close() arrives, although the session ends', async (t) => {
	const wanted = resolvers();
	const got = resolvers();
	const server = await h.serving(t, {}, async ({ stream }) => {
		let n = 0;

		await wanted.promise;
		try {
			for await (const part of stream)
				n += part.length;
			got.resolve(n);
		} catch (error) {
			got.reject(error);
		}
	});
	const stream = await h.connected(t, server);

	stream.end(Buffer.alloc(2 ** 20), () => {});
	await once(stream.resume(), 'finish'); // the channel has it, and nobody has read
	stream.destroy();
	await once(stream, 'close');
	setImmediate(() => setImmediate(wanted.resolve)); // the session is on its way out
	assert.strictEqual(await got.promise, 2 ** 20);
});

test('a slow reader gets all of it, and write() says no', async (t) => {
	const server = await h.serving(t, {}, async ({ stream }) => {
		stream.on('drain', () => {}); // Duplex's write, then
		let full = 0;

		for (const part of h.bytes(8 * 2 ** 20))
			if (!stream.write(part)) {
				full++;
				await once(stream, 'drain');
			}
		stream.end();
		assert.ok(full > 0);
	});
	const stream = await h.connected(t, server);
	const hash = crypto.createHash('sha256');

	for await (const part of stream) {
		hash.update(part);
		await new Promise(setImmediate);
	}
	assert.strictEqual(hash.digest('hex'), h.digest(8 * 2 ** 20));
});

test(`${STREAMS} streams over one session`, async (t) => {
	const server = await h.serving(t, { settings: { max_channels: 1024 } }, h.echo);
	const first = await h.connected(t, server);
	const streams = await Promise.all(Array.from({ length: STREAMS - 1 }, (unused, i) =>
		first.open(`alknet-echo:${i + 1}`)));

	streams.push(first);
	const said = await Promise.all(streams.map(async (stream, i) => {
		await stream.write(`this is ${i}`);
		return String(await stream.read(100)) === `this is ${i}`;
	}));

	assert.ok(said.every((right) => right));
	assert.strictEqual((await server.sessions())[0].channels, STREAMS);
	await Promise.all(streams.map((stream) => stream.close()));
});

test('writes of many sizes arrive as they were', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);
	const sent = [];
	const all = h.readAll(stream);

	stream.cork();
	for (const size of [0, 1, 63, 64, 1000, 16384, 16385, 32768, 100000, 300000, 0, 5]) {
		const part = crypto.randomBytes(size);

		sent.push(part);
		stream.write(part, () => {});
		stream.write(part.subarray(0, 3), () => {});
		sent.push(part.subarray(0, 3));
	}
	stream.uncork();
	stream.end();
	assert.ok((await all).equals(Buffer.concat(sent)));
});

test('info says who and where', async (t) => {
	const infos = [];
	const server = await h.serving(t, {}, ({ stream, info }) => {
		infos.push(info);
		stream.end();
		stream.resume();
	});
	const stream = await h.connected(t, server, { destination: 'alknet-demo:7' });

	assert.deepStrictEqual(stream.info, {
		destination: 'alknet-demo:7',
		remoteAddr: '127.0.0.1',
		remotePort: Number(server.listenAddr.split(':')[1]),
		transportKind: 'tcp',
		endpointId: null,
		hostKeyFingerprint: h.keys().fingerprint,
	});
	await stream.read(1);
	const [info] = infos;

	assert.strictEqual(info.destination, 'alknet-demo:7');
	assert.strictEqual(info.remoteAddr, '127.0.0.1');
	assert.strictEqual(info.transportKind, 'tcp');
	assert.strictEqual(info.endpointId, null);
	assert.strictEqual(info.identity.user, 'tester');
	assert.match(info.identity.keyFingerprint, /^SHA256:/);
	assert.deepStrictEqual(info.identity.scopes, []);
	assert.strictEqual(info.session, (await server.sessions())[0].id);
});
