// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// How a process of Node.js ends, and threads in it.
const assert = require('assert');
const { Worker } = require('worker_threads');
const { once } = require('events');
const test = require('node:test');
const h = require('./harness');

const begin = `
	const h = require(process.env.TOP + '/test/harness');
	process.on('unhandledRejection', (error) => { console.log('UNHANDLED', error); process.exit(9); });
	(async () => {
		const server = await h.serve(h.serverOptions());
		const others = [];
		server.onConnection(h.echo).onConnection(({ stream }) => others.push(stream));
		const stream = await h.connect(h.clientOptions(server));
		await stream.write('x');
		await stream.read(1);
`;

async function ends(t, code, want, flags) {
	const run = h.script(t, `${begin}${code}})();`, { flags });

	assert.deepStrictEqual(await run.ended, want, run.lines.join('\n'));
	return run.lines;
}

test('nothing keeps node alive after close', async (t) => {
	await ends(t, 'await stream.close(); await server.close();', [0, null]);
});

test('a stream and a server that nobody closes keep it alive, unless they are unrefed', async (t) => {
	const run = h.script(t, `${begin} console.log('up'); })();`);

	await run.line(/^up/);
	run.child.kill('SIGTERM');
	assert.deepStrictEqual(await run.ended, [null, 'SIGTERM']);
	await ends(t, `const there = new Promise((resolve) => server.once('connection', ({ stream }) => resolve(stream)));
		for (const one of [stream, await stream.open('alknet-echo:1'), await there, stream.session, server])
			one.unref();
		for (const one of others) one.unref();`, [0, null]);
});

test('process.exit with open streams, in the middle of what they do', async (t) => {
	await ends(t, 'process.exit(3);', [3, null]);
	await ends(t, `const chunk = Buffer.alloc(65536);
		stream.on('data', () => { if (--left === 0) process.exit(4); });
		let left = 20;
		for (;;) await new Promise((resolve) => stream.write(chunk, resolve));`, [4, null]);
	await ends(t, `h.connect(h.clientOptions(server)); setImmediate(() => process.exit(5));`, [5, null]);
	await ends(t, `h.serve(h.serverOptions()); process.exit(6);`, [6, null]);
});

test('calls after the end of the loop fail', async (t) => {
	const lines = await ends(t, `process.on('exit', () => {
			for (const call of [() => stream.write('x'), () => stream.read(1), () => stream.close(), () => stream.destroy(),
				() => server.close(), () => server.sessions(), () => h.connect(h.clientOptions(server)),
				() => h.serve(h.serverOptions())])
				try { call()?.catch?.(() => {}); } catch (error) { console.log('THREW', error); }
			console.log('all called');
		});
		process.exit(0);`, [0, null]);

	assert.deepStrictEqual(lines, ['all called']);
});

test('an exception that nobody catches', async (t) => {
	const lines = await ends(t, 'setImmediate(() => { throw new Error("of the program"); });', [1, null]);

	assert.ok(lines.some((line) => line.includes('of the program')));
});

test('promises that nobody awaits are no unhandled rejections', async (t) => {
	await ends(t, `
		stream.read(1); stream.write('x'); stream.open('alknet-echo:1'); stream.read(-1); stream.write(1); stream.open(1);
		server.sessions(); server.kill(77); server.reloadAuth({ authorizedKeys: Buffer.from('x') });
		stream.destroy(new Error('enough'));
		stream.read(1); stream.write('x');
		await server.close();
		server.sessions(); server.reloadAll();
		await new Promise(setImmediate);`, [0, null]);
});

test('garbage is collected under load', async (t) => {
	await ends(t, `
		for (let i = 0; i < 50; i++) {
			const other = await stream.open('alknet-echo:1');
			other.on('error', () => {});
			other.write(Buffer.alloc(100000), () => {});
			if (i % 3 === 0) other.destroy(); else if (i % 3 === 1) await other.close(); else other.resume();
			if (i % 5 === 0) gc();
		}
		await stream.session.close(); gc(); await server.close(); gc();`, [0, null], ['--expose-gc']);
});

function worker(code, workerData) {
	return new Worker(`
		const { workerData, parentPort } = require('worker_threads');
		const h = require(workerData.top);
		(async () => { ${code} })().catch((error) => { throw error; });`,
	{ eval: true, workerData: { top: h.top, ...workerData } });
}

test('worker_threads, each with its own streams', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const workers = [1, 2, 3].map((i) => worker(`
		const stream = await h.connect(workerData.options);
		for (let n = 0; n < 100; n++) {
			await stream.write('worker ' + workerData.i);
			if (String(await stream.read(100)) !== 'worker ' + workerData.i) throw new Error('mixed up');
		}
		await stream.close();
		parentPort.postMessage('done');`, { options: h.clientOptions(server), i }));
	const exits = await Promise.all(workers.map(async (one) => {
		const [message] = await once(one, 'message');
		const [code] = await once(one, 'exit');

		return [message, code];
	}));

	assert.deepStrictEqual(exits, [['done', 0], ['done', 0], ['done', 0]]);
});

test('a worker that is ended with open streams takes no other with it', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);

	for (let i = 0; i < 3; i++) {
		const one = worker(`
			const server = await h.serve(workerData.server);
			server.onConnection(({ stream }) => stream.pipe(stream));
			const stream = await h.connect(workerData.options);
			stream.on('data', () => parentPort.postMessage('up'));
			for (;;) await new Promise((resolve) => stream.write(Buffer.alloc(30000), resolve));`,
		{ options: h.clientOptions(server), server: h.serverOptions() });

		await once(one, 'message');
		await one.terminate();
		await stream.write('here');
		assert.strictEqual(String(await stream.read(100)), 'here');
	}
});

test('process.exit while workers are busy', async (t) => {
	await ends(t, `
		const { Worker } = require('worker_threads');
		for (let i = 0; i < 2; i++) {
			const one = new Worker(\`
				const { workerData, parentPort } = require('worker_threads');
				const h = require(workerData.top);
				h.connect(workerData.options).then(async (stream) => {
					stream.on('data', () => parentPort.postMessage('up'));
					for (;;) await new Promise((resolve) => stream.write(Buffer.alloc(30000), resolve));
				});\`, { eval: true, workerData: { top: process.env.TOP, options: h.clientOptions(server) } });
			await new Promise((resolve) => one.once('message', resolve));
		}
		process.exit(7);`, [7, null]);
});

// Their writes are on their way to the loop when it ends.
test('process.exit while workers write to many streams', async (t) => {
	for (let i = 0; i < 5; i++)
		await ends(t, `
			const { Worker } = require('worker_threads');
			const workers = [1, 2, 3].map(() => new Worker(\`
				const { workerData, parentPort } = require('worker_threads');
				const h = require(workerData.top);
				(async () => {
					const server = await h.serve(workerData.server);
					const streams = [];

					server.onConnection(({ stream }) => streams.push(stream));
					const stream = await h.connect({ ...workerData.client, server: server.listenAddr });

					for (let n = 0; n < 50; n++)
						(await stream.open('alknet-echo:' + n)).resume();
					parentPort.once('message', async () => {
						for (;;) {
							for (const one of streams)
								one.write('x', () => {});
							await new Promise(setImmediate);
						}
					});
					parentPort.postMessage('up');
				})();\`, { eval: true, workerData: { top: process.env.TOP, server: h.serverOptions(),
					client: h.clientOptions(server) } }));

			await Promise.all(workers.map((one) => new Promise((resolve) => one.once('message', resolve))));
			for (const one of workers)
				one.postMessage('go');
			setTimeout(() => process.exit(8), 50);`, [8, null]);
});
