// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const EventEmitter = require('events');
const { AbortError, AlknetError, badType, closed, code, failed } = require('./errors');
const { addon, own, disown, hold, release, pluginDir } = require('./native');
const { connectOptions, settings, destination, kindOf } = require('./options');
const { AlknetStream, quiet } = require('./stream');

// open() waits so long for a session that is being begun again.
const PATIENCE_MS = 10000;
const CONTROL = 'alknet-control:0';
const notSettings = ['destination', 'signal', 'reconnect', 'settings'];

function checkSignal(signal) {
	if (signal !== undefined && !(signal instanceof AbortSignal))
		throw badType(`signal: must be an AbortSignal, not ${kindOf(signal)}`);
}

// One SSH session. It ends with its last stream, or, if it reconnects, with close().
class Session extends EventEmitter {
	#id;
	#handle;
	#reconnect;
	#streams = new Set();
	#opening = new Map(); // of these: the timer of a session that is waited for, or undefined
	#held = false;
	#up = false;
	#over = false;
	#info = {};
	#closing;
	#everUp = false;
	#why = null;

	constructor(list, reconnect) {
		super();
		this.#reconnect = reconnect;
		this.#id = own(this);
		this.#handle = addon.connect(this.#id, list, reconnect);
		if (this.#handle === undefined) {
			disown(this.#id);
			throw closed('the process exits');
		}
		this.#hold();
	}

	get connected() {
		return this.#up;
	}

	get closed() {
		return this.#over;
	}

	get info() {
		return { ...this.#info };
	}

	#hold() {
		if (!this.#held) {
			this.#held = true;
			hold();
		}
	}

	#letGo() {
		if (this.#held) {
			this.#held = false;
			release();
		}
	}

	// As of a socket. The streams have their own.
	ref() {
		if (!this.#over)
			this.#hold();
		return this;
	}

	unref() {
		this.#letGo();
		return this;
	}

	_event(kind, number, value) {
		switch (kind) {
		case 'up':
			this.#up = this.#everUp = true;
			Object.assign(this.#info, {
				remoteAddr: value.remoteAddr,
				remotePort: value.remotePort,
				transportKind: value.transportKind,
				endpointId: value.endpointId,
				hostKeyFingerprint: value.hostKeyFingerprint,
			});
			for (const stream of this.#streams)
				Object.assign(stream.info, this.#info);
			for (const [stream, timer] of this.#opening) {
				clearTimeout(timer);
				this.#opening.set(stream, undefined);
			}
			this.emit('up', this.info);
			break;
		case 'lost':
			this.#up = false;
			// Some were asked for before this was known here.
			for (const stream of this.#opening.keys())
				this.#bePatient(stream);
			this.emit('down', failed(number ? 5 : 1, value));
			break;
		case 'closed':
			this.#end(number === 0 ? null : failed(number, value));
			break;
		}
	}

	#end(error) {
		if (this.#over)
			return;
		this.#up = false;
		this.#over = true;
		this.#why = error;
		disown(this.#id);
		for (const stream of [...this.#streams])
			stream._abort(error !== null ? error : closed('the session is closed'));
		this.#streams.clear();
		this.#letGo();
		this.#closing?.resolve();
		this.emit('close', error);
	}

	// Another stream; `options` may have a signal.
	open(to = CONTROL, options = {}) {
		try {
			if (typeof options !== 'object' || options === null)
				throw badType(`the options must be an object, not ${kindOf(options)}`);
			checkSignal(options.signal);
			return quiet(this.#open(destination(to), to, options.signal));
		} catch (error) {
			return quiet(Promise.reject(error));
		}
	}

	#open(where, name, signal) {
		if (signal?.aborted)
			throw new AbortError(signal);
		if (this.#over || this.#closing !== undefined)
			throw this.#why ?? closed('the session is closed');
		return new Promise((resolve, reject) => {
			const settle = (fn) => (value) => {
				signal?.removeEventListener('abort', onAbort);
				clearTimeout(this.#opening.get(stream));
				this.#opening.delete(stream);
				fn(value);
			};
			const stream = new AlknetStream(this, { ...this.#info, destination: name },
				{ resolve: settle(resolve), reject: settle(reject) });
			const onAbort = () => stream._abort(new AbortError(signal));

			stream._open(this.#handle, where);
			signal?.addEventListener('abort', onAbort, { once: true });
			this.#streams.add(stream);
			this.#opening.set(stream, undefined);
			if (this.#everUp && !this.#up)
				this.#bePatient(stream);
		});
	}

	#bePatient(stream) {
		if (this.#opening.get(stream) === undefined) {
			this.#opening.set(stream, setTimeout(() => stream._abort(new AlknetError(code.timeout,
				`there was no session for ${PATIENCE_MS / 1000} s`)), PATIENCE_MS));
		}
	}

	_streamGone(stream) {
		this.#streams.delete(stream);
		if (this.#streams.size > 0 || this.#reconnect || this.#over)
			return;
		// Not in the middle of what the last one does.
		setImmediate(() => {
			if (this.#streams.size === 0 && !this.#over)
				this.#stop(!this.#everUp);
		});
	}

	#stop(now) {
		this.#closing ??= resolvers();
		addon.disconnect(this.#handle, now);
		if (now)
			this.#end(null);
	}

	// End the streams and the session.
	async close() {
		if (this.#over)
			return;
		const streams = [...this.#streams];

		await Promise.all(streams.map((stream) => stream.close()));
		if (this.#over)
			return;
		const closing = (this.#closing ??= resolvers());

		addon.disconnect(this.#handle, !this.#up);
		if (!this.#up)
			this.#end(null);
		await closing.promise;
	}

	// Now, and nothing is said to the server.
	_cut(error) {
		if (this.#over)
			return;
		addon.disconnect(this.#handle, true);
		this.#end(error);
	}
}

function resolvers() {
	const all = {};

	all.promise = new Promise((resolve, reject) => Object.assign(all, { resolve, reject }));
	return all;
}

function clientSettings(options) {
	const list = settings(connectOptions, options, notSettings,
		{ log_level: 'error', plugin_dir: pluginDir });

	if (options.peer !== undefined && options.server !== undefined)
		throw badType('peer: stands beside server; give one of the two');
	if (options.timeout !== undefined)
		list.push('connect_timeout', list[list.indexOf('handshake_timeout') + 1]);
	return list;
}

async function connect(options) {
	const list = clientSettings(options);
	const { signal, reconnect = false } = options;
	const { destination: name = CONTROL } = options;

	checkSignal(signal);
	if (typeof reconnect !== 'boolean')
		throw badType(`reconnect: must be true or false, not ${kindOf(reconnect)}`);
	destination(name);
	if (signal?.aborted)
		throw new AbortError(signal);
	const session = new Session(list, reconnect);

	try {
		return await session.open(name, { signal });
	} catch (error) {
		session._cut(error);
		throw error;
	}
}

module.exports = { connect, Session, resolvers };
