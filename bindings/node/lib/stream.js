// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const { Duplex } = require('stream');
const { badType, closed, refused } = require('./errors');
const { addon, own, adopt, disown, hold, release } = require('./native');

const HIGH_WATER = 256 * 1024;
// close() waits for what was written, but not for a peer that takes nothing at all for so long.
const STUCK_MS = 30000;
const empty = Buffer.alloc(0);

// Who looks at stderr for an unhandled rejection shall not see one that nobody asked for.
function quiet(promise) {
	promise.catch(() => {});
	return promise;
}

class AlknetStream extends Duplex {
	#id = 0;
	#handle;
	#session; // of a client's stream
	#opening; // { resolve, reject } until it is open or refused
	#held = false;
	#unrefed = false;
	#waiting = false; // _read was called, and nothing had come
	#eof = false; // the peer's, perhaps behind bytes that are not fetched
	#gone = false; // the channel
	#writing; // callback of the write under way
	#ending; // callback of _final
	#readers = []; // of read(n)
	#piped = 0;
	#strict = 0; // writes that somebody awaits until the channel has taken them
	#moved = 0; // writes that were taken, for close()
	#error = null;

	// `settled` gets the stream once it is open, or the error.
	constructor(session, info, settled) {
		super({ highWaterMark: HIGH_WATER, emitClose: true });
		this.#session = session;
		this.#opening = settled;
		this.info = info;
		this.on('pipe', () => this.#piped++);
		this.on('unpipe', () => this.#piped--);
	}

	// Ask for it. Throws when the loop is gone.
	_open(client, { host, port }) {
		this.#id = own(this);
		this.#hold();
		this.#handle = addon.open(client, this.#id, host, port);
		if (this.#handle === undefined) {
			this.#gone = true;
			this.#free();
			throw closed('the process exits');
		}
	}

	// One that came to a server.
	_take(id, handle) {
		this.#id = id;
		this.#handle = handle;
		adopt(id, this);
		this.#hold();
	}

	get session() {
		return this.#session;
	}

	#hold() {
		if (!this.#held && !this.#unrefed && !this.#gone) {
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

	#free() {
		disown(this.#id);
		this.#letGo();
	}

	// As of a socket: whether it keeps the process alive.
	ref() {
		this.#unrefed = false;
		this.#hold();
		return this;
	}

	unref() {
		this.#unrefed = true;
		this.#letGo();
		return this;
	}

	// Another stream of the same session.
	open(destination, options) {
		if (this.#session === undefined)
			return quiet(Promise.reject(badType('only a client opens streams')));
		return this.#session.open(destination, options);
	}

	// ---- what happens there ----

	_event(kind, number, value) {
		switch (kind) {
		case 'data':
			if (value !== null)
				this.#push(value);
			break;
		case 'eof':
			this.#eof = true;
			if (this.#waiting)
				this.#fetch();
			break;
		case 'wrote':
			this.#wrote(number);
			break;
		case 'ended':
			this.#ended(number);
			break;
		case 'opened':
			this.#settle(null);
			break;
		case 'refused':
			this.#settle(refused(number, value, this.info.destination));
			break;
		case 'gone':
			this.#lost();
			break;
		}
	}

	// Open, or never.
	#settle(error) {
		const settled = this.#opening;

		this.#opening = undefined;
		if (settled === undefined)
			return;
		if (error === null) {
			settled.resolve(this);
			return;
		}
		this.#error = error;
		settled.reject(error);
		super.destroy();
	}

	_abort(error) {
		if (this.#opening === undefined)
			this.destroy(error);
		else
			this.#settle(error);
	}

	#lost() {
		this.#gone = true;
		this.#free();
		this.#session?._streamGone(this);
		if (this.#opening !== undefined) {
			this.#settle(closed('the session ended'));
			return;
		}
		this.#ended(-1);
		this.#wrote(-1);
		if (this.destroyed)
			return;
		if (this.#waiting)
			this.#fetch();
		if (!this.#eof)
			this.destroy(closed('the session ended'));
		else if (this.readableEnded)
			this.destroy();
		else
			this.once('end', () => this.destroy());
	}

	// ---- reading ----

	_read() {
		this.#fetch();
	}

	#fetch() {
		const bytes = addon.read(this.#handle);

		this.#waiting = bytes === undefined;
		if (bytes !== undefined)
			this.#push(bytes);
		else if (this.#eof)
			this.#finishReading();
	}

	#push(bytes) {
		this.#waiting = false;
		this.push(bytes);
		if (this.#readers.length > 0)
			this.#serveReaders();
	}

	#finishReading() {
		this.#waiting = false;
		this.push(null);
		this.#serveReaders();
	}

	#serveReaders() {
		while (this.#readers.length > 0 && this.readableLength > 0) {
			const { n, resolve } = this.#readers.shift();

			resolve(super.read(Math.min(n, this.readableLength)));
		}
		if (this.#readers.length > 0 && this.#isReadOut()) {
			for (const { resolve } of this.#readers.splice(0))
				resolve(empty);
			super.read(); // 'end'
		}
	}

	#isReadOut() {
		return this.#eof && !this.#waiting && this.readableLength === 0 &&
			this._readableState.ended;
	}

	// read(n), n from 1 up: a promise of 1 to n bytes; of none at the end of the stream. read() and read(0) are
	// Duplex's, which streams themselves call.
	read(n) {
		if (n === undefined || n === 0)
			return super.read(n);
		if (!Number.isSafeInteger(n) || n < 0)
			return quiet(Promise.reject(badType(
				'read: the number of bytes must be a whole number from 1 up')));
		if (this.#readers.length === 0 && this.readableLength > 0)
			return Promise.resolve(super.read(Math.min(n, this.readableLength)));
		if (this.readableEnded || this.#isReadOut()) {
			super.read();
			return Promise.resolve(empty);
		}
		if (this.destroyed)
			return quiet(Promise.reject(this.#reason()));
		return quiet(new Promise((resolve, reject) => {
			this.#readers.push({ n, resolve, reject });
			super.read(0);
			this.#serveReaders();
		}));
	}

	// ---- writing ----

	#wrote(rc) {
		const done = this.#writing;

		this.#writing = undefined;
		this.#moved++;
		if (done !== undefined)
			done(rc < 0 ? closed() : null);
	}

	#ended(rc) {
		const done = this.#ending;

		this.#ending = undefined;
		if (done !== undefined)
			done(rc < 0 && !this.#eof ? closed() : null);
	}

	#send(chunks, done) {
		if (this.#gone) {
			done(closed());
			return;
		}
		switch (addon.write(this.#handle, chunks, this.#strict > 0)) {
		case 0:
			done(closed());
			break;
		case 1:
			this.#writing = done;
			break;
		default:
			this.#moved++;
			done();
		}
	}

	_write(chunk, encoding, done) {
		this.#send(chunk, done);
	}

	_writev(items, done) {
		this.#send(items.map(({ chunk }) => chunk), done);
	}

	_final(done) {
		if (this.#gone) {
			done();
			return;
		}
		this.#ending = done;
		if (!addon.finish(this.#handle))
			this.#ended(-1);
	}

	// write(chunk): a promise that the channel took it. With a callback, while something is piped in and while
	// there is a listener of 'drain' it is Duplex's, whose answer says whether to go on.
	write(chunk, encoding, done) {
		if (encoding !== undefined || done !== undefined || this.#piped > 0 ||
			this.listenerCount('drain') > 0)
			return super.write(chunk, encoding, done);
		if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array))
			return quiet(Promise.reject(badType('write: must be a Buffer or a string')));
		if (this.destroyed || this.writableEnded)
			return quiet(Promise.reject(this.destroyed ? this.#reason()
				: closed('the stream was ended')));
		this.#strict++;
		return quiet(new Promise((resolve, reject) => {
			super.write(chunk, (error) => {
				this.#strict--;
				if (!error)
					resolve();
				else // of Node.js's own for what had to wait
					reject(error.code === 'ERR_STREAM_DESTROYED' ? this.#reason() : error);
			});
		}));
	}

	// ---- the end ----

	#reason() {
		return this.#error ?? closed();
	}

	// What was written goes first, then both directions end.
	close() {
		if (this.closed)
			return Promise.resolve();
		return new Promise((resolve) => {
			let moved = this.#moved;
			const timer = setInterval(() => {
				if (moved === this.#moved)
					this.destroy();
				moved = this.#moved;
			}, STUCK_MS);

			this.once('close', () => {
				clearInterval(timer);
				resolve();
			});
			if (this.destroyed || this.writableFinished)
				this.destroy();
			else
				this.end(() => this.destroy());
		});
	}

	_destroy(error, done) {
		const reason = error ?? this.#error ?? null;
		const heard = this.listenerCount('error') > 0 || this.listenerCount('data') > 0 ||
			this.listenerCount('readable') > 0;

		this.#error = reason;
		this.#settle(reason ?? closed());
		for (const { reject } of this.#readers.splice(0))
			reject(this.#reason());
		const writing = this.#writing;
		const ending = this.#ending;

		this.#writing = this.#ending = undefined;
		if (!this.#gone && this.#handle !== undefined && !addon.close(this.#handle))
			this.#gone = true;
		this.#letGo();
		this.#session?._streamGone(this);
		// Who awaits the promises hears of it there, and needs no listener.
		done(error !== null && error !== undefined && heard ? error : null);
		writing?.(this.#reason());
		ending?.(this.#reason());
	}

	get [Symbol.toStringTag]() {
		return 'AlknetStream';
	}
}

module.exports = { AlknetStream, quiet };
