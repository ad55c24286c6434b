// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// The bus (docs/BUS.md) as an EventTarget, over any duplex: a stream of Node.js, or { readable, writable } as browsers
// have it. Nothing here is Node.js's, so that it goes into a bundle for a browser.

const FRAME_MAX = 1024 * 1024;
const BUFFERED_MAX = 16 * 1024 * 1024;
const QUEUE_MAX = 4096;
// close() waits for what was written, but not for a peer that takes nothing at all for so long.
const STUCK_MS = 30000;
// A deadline is a time of the server's clock. By so much it may be ahead of ours without ending calls too soon.
const SKEW_MS = 60000;
// setTimeout() has no more.
const TIMER_MAX = 2 ** 31 - 1;
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });
// Events of the target itself, which are no topics.
const local = new Set(['error', 'close', 'dropped']);

// What the bus or a peer answers instead of a result.
class CallError extends Error {
	constructor(code, message, retryable = false) {
		super(message);
		this.name = 'CallError';
		this.code = code;
		this.retryable = retryable;
	}
}

// Whatever JSON it is.
function callError(payload) {
	const { code, message, retryable } = payload ?? {};

	return new CallError(typeof code === 'string' ? code : 'INTERNAL',
		typeof message === 'string' ? message : 'no reason was given', retryable === true);
}

function abortError(signal) {
	const error = new Error('The operation was aborted');

	error.name = 'AbortError';
	error.code = 'ABORT_ERR';
	error.cause = signal.reason;
	return error;
}

// type is what was listened for, topic what it was: they differ where that was a pattern.
class AlknetEvent extends Event {
	constructor(type, { topic = type, id = '', detail = null } = {}) {
		super(type);
		this.topic = topic;
		this.id = id;
		this.detail = detail;
	}
}

function quiet(promise) {
	promise.catch(() => {});
	return promise;
}

function resolvers() {
	const all = {};

	all.promise = quiet(new Promise((resolve, reject) => Object.assign(all, { resolve, reject })));
	return all;
}

// '*' is one token, a last '>' one or more; a pattern without a colon takes every id.
function matches(pattern, type, id) {
	const colon = pattern.indexOf(':');

	if (colon >= 0 && pattern.slice(colon + 1) !== id)
		return false;
	const want = (colon >= 0 ? pattern.slice(0, colon) : pattern).split('.');
	const have = type.split('.');

	for (let i = 0; i < want.length; i++) {
		if (want[i] === '>' && i === want.length - 1)
			return have.length > i;
		if (i >= have.length || (want[i] !== '*' && want[i] !== have[i]))
			return false;
	}
	return want.length === have.length;
}

// ---- frames ----

class Frames {
	#parts = [];
	#length = 0;

	// Gives the envelopes that are whole now; throws on what is none.
	*feed(bytes) {
		if (bytes.length > 0) {
			this.#parts.push(bytes);
			this.#length += bytes.length;
		}
		while (this.#length >= 4) {
			const head = this.#peek(4);
			const n = ((head[0] << 24) | (head[1] << 16) | (head[2] << 8) | head[3]) >>> 0;

			if (n === 0 || n > FRAME_MAX)
				throw new CallError('INVALID_FRAME', `a frame of ${n} bytes came`);
			if (this.#length < 4 + n)
				return;
			yield this.#parse(this.#take(4 + n).subarray(4));
		}
	}

	#parse(bytes) {
		let envelope;

		try {
			envelope = JSON.parse(decoder.decode(bytes));
		} catch {
			throw new CallError('INVALID_FRAME', 'a frame came that is no JSON');
		}
		if (typeof envelope?.type !== 'string' || typeof envelope.id !== 'string')
			throw new CallError('INVALID_FRAME', 'a frame came that is no envelope');
		return envelope;
	}

	#join() {
		if (this.#parts.length > 1) {
			const all = new Uint8Array(this.#length);
			let at = 0;

			for (const part of this.#parts) {
				all.set(part, at);
				at += part.length;
			}
			this.#parts = [all];
		}
		return this.#parts[0];
	}

	#peek(n) {
		return this.#parts[0].length >= n ? this.#parts[0] : this.#join();
	}

	#take(n) {
		const all = this.#parts[0].length >= n ? this.#parts[0] : this.#join();

		if (all.length === n)
			this.#parts.shift();
		else
			this.#parts[0] = all.subarray(n);
		this.#length -= n;
		return all.subarray(0, n);
	}
}

function frame(type, id, payload) {
	const text = encoder.encode(JSON.stringify({ type, id, payload: payload ?? null }));
	const bytes = new Uint8Array(4 + text.length);

	if (text.length > FRAME_MAX)
		throw new CallError('INVALID_INPUT', `the message has ${text.length} bytes, ` +
			`more than ${FRAME_MAX}`);
	new DataView(bytes.buffer).setUint32(0, text.length);
	bytes.set(text, 4);
	return bytes;
}

// ---- the two kinds of duplex ----

// Calls `cut` once `count` stood still for too long; gives what ends that.
function guard(count, cut) {
	let before = count();
	const timer = setInterval(() => {
		if (before === count())
			cut();
		before = count();
	}, STUCK_MS);

	return () => clearInterval(timer);
}

function nodePipe(stream, onBytes, onEnd) {
	let taken = 0;

	stream.on('data', (chunk) => onBytes(chunk));
	stream.on('end', () => onEnd(null));
	stream.on('error', (error) => onEnd(error));
	stream.on('close', () => onEnd(null));
	return {
		write: (bytes) => new Promise((resolve, reject) => {
			stream.write(bytes, (error) => {
				taken++;
				if (error)
					reject(error);
				else
					resolve();
			});
		}),
		close: () => new Promise((resolve) => {
			if (stream.destroyed) {
				resolve();
				return;
			}
			// An AlknetStream's own sees more closely what its peer takes.
			const closing = typeof stream.close === 'function' ? stream.close() : undefined;

			if (typeof closing?.then === 'function') {
				closing.then(resolve, resolve);
				return;
			}
			const stop = guard(() => taken, () => stream.destroy());

			stream.once('close', () => {
				stop();
				resolve();
			});
			stream.end(() => stream.destroy());
		}),
		destroy: () => stream.destroy(),
	};
}

function webPipe({ readable, writable }, onBytes, onEnd) {
	const reader = readable.getReader();
	const writer = writable.getWriter();
	let taken = 0;
	const run = async () => {
		for (;;) {
			const { done, value } = await reader.read();

			if (done)
				return;
			onBytes(value instanceof Uint8Array ? value : new Uint8Array(value));
		}
	};

	run().then(() => onEnd(null), (error) => onEnd(error));
	writer.closed.catch(() => {});
	return {
		write: (bytes) => writer.write(bytes).finally(() => taken++),
		close: async () => {
			const stuck = resolvers();
			const stop = guard(() => taken, () => {
				quiet(writer.abort());
				stuck.resolve(); // a write that is under way holds up even that
			});

			await Promise.race([writer.close().catch(() => {}), stuck.promise]);
			stop();
			await reader.cancel().catch(() => {});
		},
		destroy: () => {
			writer.abort().catch(() => {});
			reader.cancel().catch(() => {});
		},
	};
}

function pipeOf(stream, onBytes, onEnd) {
	if (typeof stream?.on === 'function' && typeof stream.write === 'function')
		return nodePipe(stream, onBytes, onEnd);
	if (typeof stream?.readable?.getReader === 'function' &&
		typeof stream.writable?.getWriter === 'function')
		return webPipe(stream, onBytes, onEnd);
	throw new TypeError('stream: must be a duplex stream, or { readable, writable }');
}

// ---- a queue that is read with `for await` ----

class Queue {
	#items = [];
	#waiting = [];
	#ended = false;
	#error = null;
	#onReturn;
	#limit;
	dropped = 0;

	constructor(limit, onReturn) {
		this.#limit = limit;
		this.#onReturn = onReturn;
	}

	// False when one had to go for it.
	push(item) {
		if (this.#ended)
			return true;
		if (this.#waiting.length > 0) {
			this.#waiting.shift().resolve({ value: item, done: false });
			return true;
		}
		this.#items.push(item);
		if (this.#items.length <= this.#limit)
			return true;
		this.#items.shift();
		this.dropped++;
		return false;
	}

	end(error = null) {
		if (this.#ended)
			return;
		this.#ended = true;
		this.#error = error;
		for (const { resolve, reject } of this.#waiting.splice(0))
			if (error !== null)
				reject(error);
			else
				resolve({ value: undefined, done: true });
	}

	next() {
		if (this.#items.length > 0)
			return Promise.resolve({ value: this.#items.shift(), done: false });
		if (this.#ended) {
			const error = this.#error;

			this.#error = null;
			return error !== null ? quiet(Promise.reject(error))
				: Promise.resolve({ value: undefined, done: true });
		}
		const wait = resolvers();

		this.#waiting.push(wait);
		return wait.promise;
	}

	return() {
		this.#items = [];
		this.end();
		this.#onReturn();
		return Promise.resolve({ value: undefined, done: true });
	}

	[Symbol.asyncIterator]() {
		return this;
	}
}

// ---- the target ----

class AlknetEventTarget extends EventTarget {
	#pipe;
	#frames = new Frames();
	#number = 0;
	#waits = new Map(); // id of what waits for __ok or error
	#calls = new Map(); // id: { onAnswer, onError, onEnd }
	#patterns = new Map(); // of addEventListener: { ref, listeners }
	#queues = new Map(); // of subscribe(): ref: { pattern, queue }
	#operations = new Map(); // of register(), by name
	#serving = new Map(); // id: AbortController
	#buffered = 0;
	#ended = false;
	#error = null;

	constructor({ stream } = {}) {
		super();
		// After close() nothing of this is heard. Without it an end is not ours, and nobody shall take it for one.
		this.#pipe = pipeOf(stream, (bytes) => this.#feed(bytes),
			(error) => this.#end(error ?? new CallError('UNAVAILABLE', 'the other end closed the stream', true)));
	}

	get closed() {
		return this.#ended;
	}

	// Bytes that the stream has not taken yet.
	get bufferedAmount() {
		return this.#buffered;
	}

	async close() {
		if (this.#ended)
			return;
		const closing = this.#pipe.close();

		this.#end(null);
		await closing;
	}

	// ---- out ----

	#gone() {
		return new CallError('UNAVAILABLE', this.#error !== null
			? `the bus is gone: ${this.#error.message}` : 'the bus is closed', true);
	}

	#say(type, id, payload) {
		const bytes = frame(type, id, payload);

		if (this.#ended)
			throw this.#gone();
		if (this.#buffered + bytes.length > BUFFERED_MAX)
			throw new CallError('OVERLOADED', 'the bus does not take what is sent', true);
		this.#buffered += bytes.length;
		const settle = () => {
			this.#buffered -= bytes.length;
		};

		return quiet(this.#pipe.write(bytes).then(settle, (error) => {
			settle();
			throw error;
		}));
	}

	#id() {
		return `js-${++this.#number}`;
	}

	// One that is answered by __ok or error.
	#ask(type, id, payload) {
		const wait = resolvers();

		try {
			this.#waits.set(id, wait);
			this.#say(type, id, payload);
		} catch (error) {
			this.#waits.delete(id);
			wait.reject(error);
		}
		return wait.promise;
	}

	// Publish; resolves when the stream has taken it.
	publish(type, payload = null, { id = '' } = {}) {
		try {
			return this.#say(String(type), String(id), payload);
		} catch (error) {
			return quiet(Promise.reject(error));
		}
	}

	// Publishes: type, and of a CustomEvent detail. Not seen here, as on the bus who publishes does not hear it.
	dispatchEvent(event) {
		if (!(event instanceof Event))
			throw new TypeError('dispatchEvent: must be an Event');
		if (event instanceof AlknetEvent || local.has(event.type))
			return super.dispatchEvent(event);
		this.#say(event.type, typeof event.id === 'string' ? event.id : '', event.detail ?? null);
		return true;
	}

	// ---- topics ----

	addEventListener(type, listener, options) {
		const { signal, once = false, capture = false } =
			typeof options === 'object' && options !== null ? options : { capture: options === true };

		if (local.has(type) || listener === null || listener === undefined) {
			super.addEventListener(type, listener, options);
			return;
		}
		if (signal?.aborted)
			return;
		const at = this.#patternOf(String(type));

		if (at.listeners.some((one) => one.listener === listener && one.capture === capture))
			return;
		const wrapper = (event) => {
			if (once)
				this.removeEventListener(type, listener, { capture });
			if (typeof listener === 'function')
				listener.call(this, event);
			else
				listener.handleEvent(event);
		};

		at.listeners.push({ listener, capture, wrapper });
		super.addEventListener(type, wrapper, { capture });
		signal?.addEventListener('abort', () => this.removeEventListener(type, listener, { capture }),
			{ once: true });
	}

	removeEventListener(type, listener, options) {
		const capture = typeof options === 'object' && options !== null ? options.capture === true
			: options === true;
		const at = this.#patterns.get(String(type));
		const i = at?.listeners.findIndex((one) =>
			one.listener === listener && one.capture === capture) ?? -1;

		if (i < 0) {
			super.removeEventListener(type, listener, options);
			return;
		}
		const [{ wrapper }] = at.listeners.splice(i, 1);

		super.removeEventListener(type, wrapper, { capture });
		if (at.listeners.length > 0)
			return;
		this.#patterns.delete(String(type));
		this.#unsubscribe(at.ref);
	}

	#patternOf(pattern) {
		let at = this.#patterns.get(pattern);

		if (at !== undefined)
			return at;
		at = { ref: this.#id(), listeners: [] };
		this.#patterns.set(pattern, at);
		at.ready = this.#ask('__subscribe', at.ref, { topic: pattern });
		at.ready.catch((error) => this.#fail(error));
		return at;
	}

	#unsubscribe(ref) {
		if (!this.#ended)
			quiet(this.#ask('__unsubscribe', ref, null));
	}

	// Resolves when the bus has taken every subscription that was asked for.
	async settled() {
		await Promise.all([
			...[...this.#patterns.values()].map(({ ready }) => ready),
			...[...this.#queues.values()].map(({ ready }) => ready),
		]);
	}

	// for await (const { type, id, payload } of target.subscribe('orders.>')). `ready` says that the bus has it.
	subscribe(pattern, { group, replay, signal, maxQueue = QUEUE_MAX } = {}) {
		const ref = this.#id();
		const queue = new Queue(maxQueue, () => {
			signal?.removeEventListener('abort', onAbort);
			if (this.#queues.delete(ref))
				this.#unsubscribe(ref);
		});
		const onAbort = () => {
			queue.end(abortError(signal));
			queue.return();
		};
		const payload = { topic: String(pattern) };

		if (group !== undefined)
			payload.group = group;
		if (replay !== undefined)
			payload.replay = typeof replay === 'object' ? Number(replay) : replay;
		if (signal?.aborted) {
			queue.end(abortError(signal));
			queue.ready = quiet(Promise.reject(abortError(signal)));
			return queue;
		}
		signal?.addEventListener('abort', onAbort, { once: true });
		queue.ready = this.#ask('__subscribe', ref, payload);
		this.#queues.set(ref, { pattern: String(pattern), queue, ready: queue.ready });
		queue.ready.catch((error) => {
			this.#queues.delete(ref);
			queue.end(error);
		});
		return queue;
	}

	// ---- calls ----

	#request(operationId, input, { signal, timeout, deadline }, on) {
		const id = this.#id();
		const payload = { operationId, input: input === undefined ? null : input };
		let timer;
		const over = () => {
			clearTimeout(timer);
			signal?.removeEventListener('abort', onAbort);
			this.#calls.delete(id);
		};
		// Nobody waits for the answer any more.
		const stop = () => {
			if (!this.#calls.has(id))
				return;
			over();
			try {
				this.#say('call.aborted', id, {});
			} catch {
				// It ends with the bus.
			}
		};
		const onAbort = () => {
			stop();
			on.error(abortError(signal));
		};
		const onLate = () => {
			stop();
			on.error(new CallError('TIMEOUT', `${operationId}: there was no answer in ${timeout} ms`, true));
		};

		if (timeout !== undefined && !(Number.isFinite(timeout) && timeout >= 0)) {
			on.error(new TypeError('timeout: must be a number of milliseconds from 0 up'));
			return () => {};
		}
		// The timeout is kept here. Without a deadline the server would end what takes longer than its own
		// call_timeout, so it is told one that lies behind.
		if (timeout !== undefined)
			payload.deadline = Date.now() + Math.ceil(timeout) + SKEW_MS;
		else if (deadline !== undefined)
			payload.deadline = Number(deadline);
		if (signal?.aborted) {
			on.error(abortError(signal));
			return () => {};
		}

		this.#calls.set(id, {
			answer: (value) => on.answer(value, over),
			error: (error) => (over(), on.error(error)),
			end: () => (over(), on.end()),
		});
		signal?.addEventListener('abort', onAbort, { once: true });
		if (timeout !== undefined) {
			timer = setTimeout(onLate, Math.min(timeout, TIMER_MAX));
			timer.unref?.(); // the stream keeps the process alive, or shall not
		}
		try {
			this.#say('call.requested', id, payload);
		} catch (error) {
			over();
			on.error(error);
		}
		return stop;
	}

	// The answer of an operation, or a CallError.
	call(operationId, input, options = {}) {
		return quiet(new Promise((resolve, reject) => {
			this.#request(operationId, input, options, {
				answer: (value, over) => (over(), resolve(value)),
				error: reject,
				end: () => resolve(undefined),
			});
		}));
	}

	// The answers of an operation of type subscription: for await.
	stream(operationId, input, options = {}) {
		let stop = () => {};
		const queue = new Queue(options.maxQueue ?? QUEUE_MAX, () => stop());

		stop = this.#request(operationId, input, options, {
			answer: (value) => this.#queued(queue, value),
			error: (error) => queue.end(error),
			end: () => queue.end(),
		});
		return queue;
	}

	// Serve operations as the spoke of this name: { '/fs/read': async (input, { signal, id }) => ... }, or
	// { '/fs/read': { handler, type, inputSchema, outputSchema, requiredScopes, requiredScopesAny } }.
	register(spoke, operations) {
		const list = [];

		for (const [name, given] of Object.entries(operations)) {
			const one = typeof given === 'function' ? { handler: given } : given;

			if (typeof one?.handler !== 'function')
				throw new TypeError(`register: ${name} has no handler`);
			list.push({
				name,
				op_type: one.type ?? 'query',
				input_schema: one.inputSchema ?? {},
				output_schema: one.outputSchema ?? {},
				access_control: {
					required_scopes: one.requiredScopes ?? [],
					required_scopes_any: one.requiredScopesAny ?? [],
				},
			});
			this.#operations.set(name, one);
		}
		return this.call('/hub/services/register', { spoke, operations: list });
	}

	async #serve(id, payload) {
		const { operationId, input } = payload ?? {};
		const operation = this.#operations.get(operationId);
		const abort = new AbortController();
		const answer = (type, payload) => {
			if (!abort.signal.aborted && !this.#ended)
				this.#say(type, id, payload);
		};

		this.#serving.set(id, abort);
		try {
			if (typeof operationId !== 'string')
				throw new CallError('INVALID_INPUT', 'the payload must be an object with an operationId');
			if (operation === undefined)
				throw new CallError('NOT_FOUND', `there is no operation ${operationId}`);
			const result = operation.handler.call(this, input, { signal: abort.signal, id });

			if (operation.type === 'subscription') {
				for await (const value of result) {
					if (abort.signal.aborted)
						break;
					answer('call.responded', { output: value ?? null });
				}
				answer('call.completed', {});
			} else {
				answer('call.responded', { output: (await result) ?? null });
			}
		} catch (error) {
			this.#serveFailed(answer, error);
		} finally {
			this.#serving.delete(id);
		}
	}

	#serveFailed(answer, error) {
		const is = error instanceof CallError;

		try {
			answer('call.error', {
				code: is ? error.code : 'INTERNAL',
				message: String(error?.message ?? error),
				retryable: is && error.retryable,
			});
		} catch (failed) {
			this.#fail(failed);
		}
	}

	// ---- in ----

	#feed(bytes) {
		try {
			for (const envelope of this.#frames.feed(bytes))
				this.#hear(envelope);
		} catch (error) {
			this.#pipe.destroy();
			this.#end(error);
		}
	}

	#hear({ type, id, payload }) {
		if (this.#ended)
			return;
		switch (type) {
		case '__ok':
			this.#waited(id)?.resolve();
			return;
		case 'error':
			this.#refused(id, callError(payload));
			return;
		case '__dropped':
			this.#tell('dropped', { count: Number.isInteger(payload?.count) ? payload.count : 0, by: 'bus' });
			return;
		case 'call.requested':
			this.#serve(id, payload);
			return;
		case 'call.responded':
			this.#calls.get(id)?.answer(payload?.output);
			return;
		case 'call.completed':
			this.#calls.get(id)?.end();
			return;
		case 'call.error':
			this.#calls.get(id)?.error(callError(payload));
			return;
		case 'call.aborted':
			this.#aborted(id);
			return;
		default:
			this.#event(type, id, payload);
		}
	}

	#waited(id) {
		const wait = this.#waits.get(id);

		this.#waits.delete(id);
		return wait;
	}

	#refused(id, error) {
		const wait = this.#waited(id);

		if (wait !== undefined)
			wait.reject(error);
		else
			this.#fail(error);
	}

	#aborted(id) {
		this.#serving.get(id)?.abort();
		this.#calls.get(id)?.error(new CallError('ABORTED', 'the call was aborted', true));
	}

	#event(type, id, payload) {
		for (const { pattern, queue } of [...this.#queues.values()])
			if (matches(pattern, type, id))
				this.#queued(queue, { type, id, payload });
		for (const pattern of [...this.#patterns.keys()])
			if (matches(pattern, type, id))
				super.dispatchEvent(new AlknetEvent(pattern, { topic: type, id, detail: payload }));
	}

	#queued(queue, value) {
		if (!queue.push(value))
			this.#tell('dropped', { count: 1, by: 'queue' });
	}

	#tell(type, detail) {
		super.dispatchEvent(new AlknetEvent(type, { detail }));
	}

	// Nobody waits for it: an event 'error', whose detail it is.
	#fail(error) {
		if (!this.#ended)
			this.#tell('error', error);
	}

	#end(error) {
		if (this.#ended)
			return;
		if (error !== null)
			this.#tell('error', error);
		this.#ended = true;
		this.#error = error;
		const gone = this.#gone();

		for (const { reject } of this.#waits.values())
			reject(gone);
		for (const call of [...this.#calls.values()])
			call.error(gone);
		for (const { queue } of this.#queues.values())
			queue.end(error !== null ? gone : null);
		for (const abort of this.#serving.values())
			abort.abort();
		this.#waits.clear();
		this.#queues.clear();
		this.#tell('close', null);
	}
}

function createEventTarget(options) {
	return new AlknetEventTarget(options);
}

module.exports = { createEventTarget, AlknetEventTarget, AlknetEvent, CallError };
