// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// Questions and short answers, which go by the thread of the environment itself (src/visit.c).
const assert = require('assert');
const { Worker } = require('worker_threads');
const { once } = require('events');
const { setImmediate: turn } = require('timers/promises');
const test = require('node:test');
const h = require('./harness');

// Each question is another one, and its answer the same.
async function converse(stream, questions, size = 64) {
	for (let i = 0; i < questions; i++) {
		const question = Buffer.alloc(size, `${i} `);
		let answer = Buffer.alloc(0);

		stream.write(question, () => {});
		while (answer.length < size)
			answer = Buffer.concat([answer, await stream.read(size)]);
		assert.deepStrictEqual(answer, question);
	}
}

const peers = {
	'alknet serve': async (t) => ({ server: (await h.alknetServe(t)).address }),
	sshd: async (t) => {
		const { address, user } = await h.sshd(t);

		return { server: address, user };
	},
	'a server in this process': async (t) => ({ server: (await h.serving(t)).listenAddr }),
};

for (const [name, peer] of Object.entries(peers)) {
	test(`a conversation, alone and beside bulk: ${name}`, async (t) => {
		const port = await h.tcpEcho(t);
		const { server, ...more } = await peer(t);
		const stream = await h.connected(t, server, { ...more, destination: `127.0.0.1:${port}` });
		const total = 8 << 20;

		await converse(stream, 2000);
		const bulk = await stream.open(`127.0.0.1:${port}`);
		const all = h.readAll(bulk);
		const writing = (async () => {
			for (const part of h.bytes(total))
				await bulk.write(part);
			bulk.end();
		})();

		await converse(stream, 200);
		await writing;
		assert.strictEqual((await all).length, total);
		await converse(stream, 500, 5000); // more than a question is
		await converse(stream, 500, 1);
		await stream.session.close(); // before sshd, whose children outlive it
	});
}

test('many questions before the first answer stay in their order', async (t) => {
	const stream = await h.connected(t, (await h.alknetServe(t)).address, { destination: `127.0.0.1:${await h.tcpEcho(t)}` });
	const said = [];

	await converse(stream, 10);
	for (let i = 0; i < 3000; i++) {
		said.push(`${i} `);
		stream.write(said[i], () => {});
	}
	stream.end();
	assert.strictEqual((await h.readAll(stream)).toString(), said.join(''));
});

test('streams of one session talk at the same time', async (t) => {
	const port = await h.tcpEcho(t);
	const first = await h.connected(t, (await h.alknetServe(t)).address, { destination: `127.0.0.1:${port}` });
	const streams = [first];

	while (streams.length < 20)
		streams.push(await first.open(`127.0.0.1:${port}`));
	await Promise.all(streams.map((stream) => converse(stream, 100)));
});

test('the session ends in the middle of a conversation', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);

	await converse(stream, 100);
	const over = assert.rejects(converse(stream, Infinity), { code: 'ERR_ALKNET_CLOSED' });
	const [{ id }] = await server.sessions();

	await server.kill(id);
	await over;
	while ((await server.sessions()).length > 0)
		await turn();
});

test('while the program does not come to its event loop the session is kept alive', async (t) => {
	const { address, run } = await h.alknetServe(t, ['--keepalive', '5s']);
	const stream = await h.connected(t, address, { destination: `127.0.0.1:${await h.tcpEcho(t)}` });

	await converse(stream, 100);
	stream.write('x', () => {});
	// Longer than the server believes that a silent client lives.
	Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20000);
	assert.strictEqual((await stream.read(1)).toString(), 'x');
	await converse(stream, 100);
	assert.ok(!run.lines.some((line) => line.includes('session closed')), run.lines.join('\n'));
});

test('conversations in several threads, some of which end in the middle', async (t) => {
	const { address } = await h.alknetServe(t);
	const port = await h.tcpEcho(t);
	const options = h.clientOptions(address, { destination: `127.0.0.1:${port}` });
	const code = `
		const { parentPort, workerData } = require('worker_threads');
		const { connect } = require(${JSON.stringify(h.top)});

		(async () => {
			const stream = await connect(workerData);

			for (let i = 0; ; i++) {
				if (i === 50)
					parentPort.postMessage('talks');
				stream.write('question', () => {});
				for (let got = 0; got < 8;)
					got += (await stream.read(8)).length;
			}
		})();`;
	const stream = await h.connected(t, address, { destination: `127.0.0.1:${port}` });

	for (let round = 0; round < 5; round++) {
		const workers = [1, 2, 3].map(() => new Worker(code, { eval: true, workerData: options }));

		await Promise.all(workers.map((worker) => once(worker, 'message')));
		const talk = converse(stream, 300);

		await Promise.all(workers.map((worker) => worker.terminate()));
		await talk;
	}
});

test('a process that exits in the middle of a conversation', async (t) => {
	const { address } = await h.alknetServe(t);
	const options = h.clientOptions(address, { destination: `127.0.0.1:${await h.tcpEcho(t)}` });
	const run = h.script(t, `
		const { connect } = require(process.env.TOP);
		connect(${JSON.stringify(options)}).then((stream) => {
			let left = 500;

			stream.on('data', () => {
				if (--left === 0)
					process.exit(7);
				stream.write('x', () => {});
			});
			stream.write('x', () => {});
		});`);

	assert.deepStrictEqual(await run.ended, [7, null], run.lines.join('\n'));
});
