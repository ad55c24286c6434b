// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const assert = require('assert');
const { execFileSync, spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const { Duplex, PassThrough } = require('stream');
const test = require('node:test');
const vm = require('vm');
const h = require('./harness');

async function bus(t, more = {}) {
	const server = await h.serving(t, { services: ['bus'], ...more });

	return async () => {
		const target = h.createEventTarget({ stream: await h.connected(t, server) });

		t.after(() => target.close());
		return target;
	};
}

// The next event of a type.
const heard = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));

// Node.js 18 has the class behind a switch; an Event with a detail will do.
const custom = (type, detail) => globalThis.CustomEvent !== undefined ? new CustomEvent(type, { detail })
	: Object.assign(new Event(type), { detail });

test('dispatchEvent publishes, addEventListener subscribes', async (t) => {
	const join = await bus(t);
	const [a, b] = [await join(), await join()];
	const exact = heard(b, 'order.made');
	const pattern = heard(b, 'order.>');
	const withId = heard(b, 'order.made:7');

	await b.settled();
	a.dispatchEvent(custom('order.made', { n: 1 }));
	const one = await exact;

	assert.deepStrictEqual([one.type, one.topic, one.id, one.detail], ['order.made', 'order.made', '', { n: 1 }]);
	assert.strictEqual((await pattern).type, 'order.>');
	await a.publish('order.made', { n: 2 }, { id: '7' });
	assert.deepStrictEqual((await withId).detail, { n: 2 });
	assert.throws(() => a.dispatchEvent({}), TypeError);
});

test('listeners: once, removed, by a signal, objects', async (t) => {
	const join = await bus(t);
	const [a, b] = [await join(), await join()];
	const seen = [];
	const controller = new AbortController();
	const twice = () => seen.push('twice');
	const object = { handleEvent: () => seen.push('object') };

	b.addEventListener('x', () => seen.push('once'), { once: true });
	b.addEventListener('x', twice);
	b.addEventListener('x', twice); // the same is one
	b.addEventListener('x', object);
	b.addEventListener('x', () => seen.push('signal'), { signal: controller.signal });
	b.addEventListener('x', () => seen.push('never'), { signal: AbortSignal.abort() });
	await b.settled();
	let event = heard(b, 'x');

	await a.publish('x');
	await event;
	assert.deepStrictEqual(seen, ['once', 'twice', 'object', 'signal']);
	controller.abort();
	b.removeEventListener('x', object);
	b.removeEventListener('x', () => {});
	event = heard(b, 'x');
	await a.publish('x');
	await event;
	assert.deepStrictEqual(seen.slice(4), ['twice']);
});

test('subscribe is an async iterator', async (t) => {
	const join = await bus(t);
	const [a, b] = [await join(), await join()];
	const controller = new AbortController();
	const events = b.subscribe('count.*', { signal: controller.signal });
	const seen = [];

	await events.ready;
	for (let i = 0; i < 100; i++)
		a.publish('count.up', i);
	for await (const { type, payload } of events) {
		assert.strictEqual(type, 'count.up');
		seen.push(payload);
		if (payload === 99)
			break;
	}
	assert.deepStrictEqual(seen, [...Array(100).keys()]);

	const other = b.subscribe('y', { signal: controller.signal });
	const waits = other.next();

	controller.abort();
	await assert.rejects(waits, { name: 'AbortError' });
	await assert.rejects(b.subscribe('y', { signal: controller.signal }).next(), { name: 'AbortError' });
});

test('a queue group, a retained value, a queue that is full', async (t) => {
	const join = await bus(t);
	const [a, b, c] = [await join(), await join(), await join()];
	const groups = [b, c].map((target) => target.subscribe('job', { group: 'workers' }));

	await Promise.all(groups.map(({ ready }) => ready));
	for (let i = 0; i < 10; i++)
		await a.publish('job', i);
	const first = await Promise.all(groups.map((group) => group.next()));

	assert.notStrictEqual(first[0].value.payload, first[1].value.payload);
	await Promise.all(groups.map((group) => group.return()));
	await a.publish('state', { retain: true, value: 5 });
	// Whoever publishes is served in order, so an answered call is behind it.
	await a.call('/services/list', {});
	assert.strictEqual((await b.subscribe('state', { replay: 'last' }).next()).value.payload.value, 5);

	const small = c.subscribe('many', { maxQueue: 2 });
	const dropped = heard(c, 'dropped');

	await small.ready;
	for (let i = 0; i < 5; i++)
		await a.publish('many', i);
	assert.strictEqual((await dropped).detail.count, 1);
	const left = heard(c, 'last');

	await c.settled();
	await a.publish('last');
	await left;
	assert.strictEqual(small.dropped, 3);
	assert.strictEqual((await small.next()).value.payload, 3);
});

test('calls and a spoke', async (t) => {
	const join = await bus(t);
	const [a, b] = [await join(), await join()];
	let stopped;
	const isStopped = new Promise((resolve) => { stopped = resolve; });

	await b.register('dev1', {
		'/math/add': ({ x, y }) => x + y,
		'/math/later': async () => 'later',
		'/math/fail': () => { throw new h.CallError('TEAPOT', 'short and stout', true); },
		'/math/bug': async () => { throw new Error('a bug'); },
		'/math/never': (input, { signal }) => new Promise(() => signal.addEventListener('abort', stopped)),
		'/math/checked': { handler: (x) => x, inputSchema: { type: 'number' }, type: 'query' },
		'/math/count': {
			type: 'subscription',
			handler: async function* (n) {
				for (let i = 0; i < n; i++)
					yield i;
			},
		},
	});
	assert.strictEqual(await a.call('/dev1/math/add', { x: 2, y: 3 }), 5);
	assert.strictEqual(await a.call('/dev1/math/later'), 'later');
	await assert.rejects(a.call('/dev1/math/fail'), { name: 'CallError', code: 'TEAPOT', message: 'short and stout',
		retryable: true });
	await assert.rejects(a.call('/dev1/math/bug'), { code: 'INTERNAL', message: 'a bug' });
	await assert.rejects(a.call('/dev1/math/checked', 'x'), { code: 'INVALID_INPUT' });
	await assert.rejects(a.call('/dev1/math/nothing'), { code: 'NOT_FOUND' });
	await assert.rejects(a.call('/dev1/math/never', null, { timeout: 50 }), { code: 'TIMEOUT' });
	const controller = new AbortController();
	const never = a.call('/dev1/math/never', null, { signal: controller.signal });

	await a.call('/dev1/math/add', { x: 1, y: 1 });
	controller.abort();
	await assert.rejects(never, { name: 'AbortError' });
	await isStopped;
	const seen = [];

	for await (const n of a.stream('/dev1/math/count', 5))
		seen.push(n);
	assert.deepStrictEqual(seen, [0, 1, 2, 3, 4]);
	const { operations } = await a.call('/services/list', { prefix: '/dev1/' });

	assert.strictEqual(operations.length, 7);
	assert.throws(() => b.register('dev2', { '/x': 1 }), TypeError);
	const pending = a.call('/dev1/math/never');

	await a.call('/dev1/math/add', { x: 1, y: 1 });
	await b.close();
	await assert.rejects(pending, { code: 'UNAVAILABLE' });
});

test('what is refused is an event', async (t) => {
	const join = await bus(t, { policy: Buffer.from(`return {
		on_subscribe = function(_, topic) if topic.pattern == "secret" then return "deny", "not for you" end return "allow" end,
	}`) });
	const a = await join();
	const error = new Promise((resolve) => a.addEventListener('error', resolve, { once: true }));

	a.addEventListener('bad..pattern', () => {});
	assert.strictEqual((await error).detail.code, 'INVALID_INPUT');
	await assert.rejects(a.subscribe('also..bad').ready, { code: 'INVALID_INPUT' });
	await assert.rejects(a.publish('x', 'y'.repeat(2 ** 20)), { code: 'INVALID_INPUT' });
});

test('the end of the stream', async (t) => {
	const server = await h.serving(t, { services: ['bus'] });
	const stream = await h.connected(t, server);
	const target = h.createEventTarget({ stream });
	const closed = heard(target, 'close');
	const error = new Promise((resolve) => target.addEventListener('error', resolve));
	const events = target.subscribe('x');

	await events.ready;
	const waits = events.next();
	const call = target.call('/services/list', {}); // perhaps answered before

	call.catch(() => {});
	await server.kill((await server.sessions())[0].id);
	await Promise.all([closed, error]);
	await assert.rejects(waits, { code: 'UNAVAILABLE' });
	assert.ok(target.closed);
	await assert.rejects(target.call('/x'), { code: 'UNAVAILABLE' });
	await assert.rejects(target.publish('x'), { code: 'UNAVAILABLE' });
	assert.throws(() => target.dispatchEvent(new Event('x')), { code: 'UNAVAILABLE' });
	await target.close();
});

function frame(text) {
	const bytes = Buffer.from(text);
	const head = Buffer.alloc(4);

	head.writeUInt32BE(bytes.length);
	return Buffer.concat([head, bytes]);
}

// A duplex whose other end is ours.
function pair() {
	const [there, here] = [new PassThrough(), new PassThrough()];

	return { stream: Duplex.from({ readable: there, writable: here }), there, here };
}

test('bad frames end it, split ones do not', async () => {
	for (const bad of [Buffer.from([0, 0, 0, 0]), Buffer.from([0xff, 0xff, 0xff, 0xff]), frame('{'), frame('[]'), frame('null'),
		frame('{"type":1,"id":""}'), frame('{"type":"x"}'), frame('"\xff"'), Buffer.concat([Buffer.from([0, 0, 0, 1]), Buffer.from([0xff])])]) {
		const { stream, there } = pair();
		const target = h.createEventTarget({ stream });
		const error = new Promise((resolve) => target.addEventListener('error', resolve));

		there.write(bad);
		assert.strictEqual((await error).detail.code, 'INVALID_FRAME');
		assert.ok(target.closed);
	}
	const { stream, there } = pair();
	const target = h.createEventTarget({ stream });
	const event = new Promise((resolve) => target.addEventListener('a.b', resolve));

	for (const byte of frame('{"type":"a.b","id":"","payload":"\u00fc\u{1f600}"}'))
		there.write(Buffer.from([byte]));
	assert.strictEqual((await event).detail, '\u00fc\u{1f600}');
	for (const nothing of [undefined, null, {}, { stream: 1 }, { stream: {} }])
		assert.throws(() => h.createEventTarget(nothing), TypeError);
});

// The frames that are sent, as they come.
async function* sent(here) {
	let rest = Buffer.alloc(0);

	for await (const part of here) {
		rest = Buffer.concat([rest, part]);
		while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE()) {
			const n = 4 + rest.readUInt32BE();

			yield JSON.parse(rest.subarray(4, n));
			rest = rest.subarray(n);
		}
	}
}

test('payloads of any kind end nothing', async (t) => {
	const { stream, there, here } = pair();
	const target = h.createEventTarget({ stream });
	const frames = sent(here);
	const odd = [undefined, null, 5, true, 'x', [], ['x'], {}, { operationId: null }, { operationId: 5 },
		{ operationId: { toString: 1 } }, { code: { toString: 1, valueOf: 1 } }, { message: { toString: 1 } },
		{ count: { toString: 1, valueOf: 1 } }, { count: '7' }, { output: null }];
	const say = (type, id, payload) => there.write(frame(JSON.stringify({ type, id, payload })));
	const unhandled = [];
	const onUnhandled = (error) => unhandled.push(error);

	process.on('unhandledRejection', onUnhandled);
	t.after(() => process.off('unhandledRejection', onUnhandled));
	for (const payload of odd) {
		say('call.requested', '7', payload);
		const { value } = await frames.next();

		assert.deepStrictEqual([value.type, value.id, value.payload.code, value.payload.retryable],
			['call.error', '7', 'INVALID_INPUT', false], JSON.stringify(payload));
	}
	for (const payload of odd) {
		for (const type of ['error', '__ok', '__dropped', 'call.responded', 'call.completed', 'call.error', 'call.aborted'])
			say(type, 'nobody', payload);
		for (const type of ['call.responded', 'call.completed', 'call.error', 'call.aborted']) {
			const call = target.call('/x').catch((error) => error);
			const { value } = await frames.next();

			say(type, value.id, payload);
			const answer = await call;

			if (type === 'call.error')
				assert.ok(answer instanceof h.CallError && typeof answer.code === 'string');
		}
	}
	assert.ok(!target.closed);
	assert.deepStrictEqual(unhandled, []);
});

test('a timeout is kept where nothing comes', async () => {
	const { stream, here } = pair();
	const target = h.createEventTarget({ stream });
	const frames = sent(here);
	const awake = setInterval(() => {}, 1000); // nothing else here keeps node alive
	const begin = Date.now();
	const late = { name: 'CallError', code: 'TIMEOUT', retryable: true };

	await assert.rejects(target.call('/x', null, { timeout: 50 }), late);
	const asked = (await frames.next()).value;
	const aborted = (await frames.next()).value;

	assert.strictEqual(asked.type, 'call.requested');
	assert.ok(Date.now() - begin < 20000);
	// A server whose clock is somewhat ahead takes it all the same.
	assert.ok(asked.payload.deadline >= begin + 60050 && asked.payload.deadline < Date.now() + 60060);
	assert.deepStrictEqual(aborted, { type: 'call.aborted', id: asked.id, payload: {} });
	await assert.rejects(target.stream('/x', null, { timeout: 20 }).next(), late);
	for (const timeout of [-1, NaN, Infinity, '1', null])
		await assert.rejects(target.call('/x', null, { timeout }), TypeError);

	// Longer than a timer may be: it does not fire at once.
	const long = target.call('/x', null, { timeout: 2 ** 40 });
	let over = false;

	long.catch(() => {}).finally(() => { over = true; });
	await new Promise((resolve) => setTimeout(resolve, 50));
	assert.ok(!over);
	target.call('/x', null, { deadline: 5 });
	for await (const { type, payload } of frames)
		if (type === 'call.requested' && payload.deadline < begin) {
			assert.strictEqual(payload.deadline, 5);
			break;
		}
	clearInterval(awake);
	stream.destroy();
});

test('replay is sent as the bus has it', async () => {
	const { stream, here } = pair();
	const target = h.createEventTarget({ stream });
	const frames = sent(here);

	for (const [replay, want] of [['last', 'last'], ['all', 'all'], [1700000000000, 1700000000000],
		[new Date(1700000000001), 1700000000001]]) {
		target.subscribe('x', { replay });
		assert.deepStrictEqual((await frames.next()).value.payload, { topic: 'x', replay: want });
	}
	stream.destroy();
});

test('close: a peer that takes nothing is not waited for', { timeout: 20000 }, async (t) => {
	const server = await h.serving(t, {}, ({ stream }) => stream.on('error', () => {})); // which nobody reads
	const never = { read() {}, write() {} };
	const web = { readable: new ReadableStream(), writable: new WritableStream({ write: () => new Promise(() => {}) }) };
	const awake = setInterval(() => {}, 1000);

	h.impatient(t, 30000);
	for (const stream of [await h.connected(t, server), new Duplex(never),
		Object.assign(new Duplex(never), { close() {} }), web]) {
		const target = h.createEventTarget({ stream });

		for (let i = 0; i < 12; i++)
			target.publish('x', 'y'.repeat(2 ** 20 - 100));
		await target.close();
		assert.ok(target.closed && (stream.destroyed || stream === web));
	}
	clearInterval(awake);
});

test('what the types name is there', () => {
	const names = (file) => [...fs.readFileSync(path.join(h.top, file), 'utf8')
		.matchAll(/^export (?:declare )?(?:abstract )?(?:class|function|const|let|enum) (\w+)/gm)].map(([, name]) => name);
	const bus = names('event-target.d.ts');
	const all = [...bus, ...names('index.d.ts')];

	assert.ok(bus.includes('AlknetEvent') && all.includes('connect'));
	assert.deepStrictEqual(Object.keys(require('../event-target')).sort(), bus.sort());
	assert.deepStrictEqual(Object.keys(require('..')).sort(), all.sort());
});

test('over web streams', async (t) => {
	const join = await bus(t);
	const server = await h.serving(t, { services: ['bus'] });
	const { readable, writable } = Duplex.toWeb(await h.connected(t, server));
	const a = h.createEventTarget({ stream: { readable, writable } });
	const b = h.createEventTarget({ stream: await h.connected(t, server) });

	assert.ok(join);
	const event = heard(a, 'x');

	await a.settled();
	await b.publish('x', 1);
	assert.strictEqual((await event).detail, 1);
	assert.ok(Array.isArray((await a.call('/services/list', {})).operations));
	await a.close();
	await b.close();
});

function find(name) {
	const places = [process.env[name.toUpperCase()], path.join(h.top, 'node_modules', '.bin', name),
		...(process.env.PATH ?? '').split(':').map((dir) => path.join(dir, name))];

	return places.find((place) => place !== undefined && fs.existsSync(place));
}

test('in a bundle for a browser', { skip: find('esbuild') === undefined && 'esbuild is not installed' }, async (t) => {
	const out = h.keys().at('bundle.js');

	fs.mkdirSync(h.keys().at('node_modules'));
	fs.symlinkSync(h.top, h.keys().at('node_modules/alknet-napi'));
	fs.writeFileSync(h.keys().at('page.js'),
		'import { createEventTarget } from "alknet-napi";\nglobalThis.made = createEventTarget;\n');
	execFileSync(find('esbuild'), [h.keys().at('page.js'), '--bundle', '--platform=browser', '--format=iife',
		`--outfile=${out}`, '--log-level=error'], { stdio: 'inherit' });
	const text = fs.readFileSync(out, 'utf8');

	assert.doesNotMatch(text, /\brequire\(['"]|process\.|\bBuffer\b/);
	// What a page has, and nothing of Node.js's.
	const page = vm.createContext({ EventTarget, Event, TextEncoder, TextDecoder, AbortController, console,
		queueMicrotask, setTimeout, clearTimeout, setInterval, clearInterval });

	vm.runInContext(text, page);
	const server = await h.serving(t, { services: ['bus'] });
	const target = page.made({ stream: Duplex.toWeb(await h.connected(t, server)) });

	assert.ok(Array.isArray((await target.call('/services/list', {})).operations));
	await target.close();
});

// @types/node: npm's, or the one that Debian's nodejs brings.
const types = [path.join(h.top, 'node_modules', '@types'), process.env.ALKNET_NODE_TYPES, '/usr/share/nodejs/@types']
	.find((dir) => dir !== undefined && fs.existsSync(path.join(dir, 'node')));

test('the types fit the examples', {
	skip: (find('tsc') === undefined && 'tsc is not installed') || (types === undefined && '@types/node is not installed'),
}, () => {
	const run = spawnSync(find('tsc'), ['-p', '.', '--typeRoots', types], { cwd: h.top, encoding: 'utf8' });

	assert.strictEqual(run.stdout + run.stderr, '');
	assert.strictEqual(run.status, 0);
});
