// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const EventEmitter = require('events');
const { AlknetError, badType, badValue, closed, code, failed } = require('./errors');
const { addon, own, disown, hold, release, pluginDir } = require('./native');
const { serveOptions, settings, kindOf } = require('./options');
const { forwardingPolicy } = require('./forwarding');
const { AlknetStream, quiet } = require('./stream');
const { resolvers } = require('./session');

const notSettings = ['services', 'forwarding', 'settings'];
const authOptions = ['authorizedKeys', 'certAuthority', 'revokedKeys'];

const nothing = () => undefined;

class Server extends EventEmitter {
	#id;
	#handle;
	#ready = resolvers();
	#closing;
	#over = false;
	#held = false;
	#listeners = []; // [transport, address]
	#requests = new Map();
	#number = 0;
	#watched = false;
	#scripted; // a policy of the program's own
	#services;
	#reloads = Promise.resolve(); // one after the other

	constructor(list, scripted, services) {
		super();
		this.#scripted = scripted;
		this.#services = services;
		this.#id = own(this);
		this.#handle = addon.serve(this.#id, list);
		if (this.#handle === undefined) {
			disown(this.#id);
			throw closed('the process exits');
		}
		this.#hold();
		this.on('newListener', (name) => {
			if (name === 'connection')
				addon.accept(this.#handle, true);
			else if (name === 'session')
				this.#watch();
		});
		this.on('removeListener', (name) => {
			if (name === 'connection' && this.listenerCount('connection') === 0)
				addon.accept(this.#handle, false);
		});
	}

	_ready() {
		return this.#ready.promise;
	}

	// HOST:PORT of the first listener, with the real port.
	get listenAddr() {
		return this.#listeners[0]?.[1] ?? null;
	}

	get listenAddrs() {
		return this.#listeners.map(([, address]) => address);
	}

	// Of the iroh transport, whose address it is.
	get endpointId() {
		const found = this.#listeners.find(([transport]) => transport === 'iroh');

		return found !== undefined ? found[1].split(/[\s,]/)[0] : null;
	}

	get closed() {
		return this.#over;
	}

	#hold() {
		if (!this.#held && !this.#over) {
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

	ref() {
		this.#hold();
		return this;
	}

	unref() {
		this.#letGo();
		return this;
	}

	_event(kind, number, value) {
		switch (kind) {
		case 'ready':
			this.#listeners = value.split('\n').filter((line) => line !== '')
				.map((line) => line.split(/ (.*)/s).slice(0, 2));
			this.#ready.resolve(this);
			break;
		case 'channel':
			this.#channel(number, value);
			break;
		case 'answer':
			this.#answer(number)?.resolve(JSON.parse(value));
			break;
		case 'failed':
			this.#answer(number)?.reject(failed(
				this.#over || this.#closing ? 0 : 16, value));
			break;
		case 'watched':
			this.#seen(JSON.parse(value));
			break;
		case 'closed':
			this.#end(number === 0 ? null : failed(number, value));
			break;
		}
	}

	#channel(id, value) {
		const stream = new AlknetStream(undefined, {
			remoteAddr: value.remoteAddr,
			remotePort: value.remotePort,
			transportKind: value.transportKind,
			endpointId: value.endpointId,
			destination: value.host.startsWith('/') ? value.host : `${value.host}:${value.port}`,
			session: value.session,
			identity: {
				id: value.id,
				user: value.user,
				keyFingerprint: value.keyFingerprint,
				scopes: value.scopes,
			},
		});

		stream._take(id, value.handle);
		if (!this.emit('connection', { stream, info: stream.info }))
			stream.destroy();
	}

	// `watch` for who wants to know of sessions.
	#watch() {
		if (this.#watched || this.#over)
			return;
		this.#watched = true;
		addon.request(this.#handle, 0, 'watch', null, null);
	}

	#seen(event) {
		if (event.event === 'auth' && event.result === 'accept')
			this.emit('session', { type: 'open', id: event.session, user: event.user,
				remoteAddr: event.remote_addr });
		else if (event.event === 'session.close')
			this.emit('session', { type: 'close', id: event.session, reason: event.reason,
				remoteAddr: event.remote_addr, duration: event.duration });
		else if (event.event === 'worker.end' && !event.expected)
			this.emit('error', new AlknetError(code.closed, 'the server stopped taking sessions'));
	}

	#end(error) {
		if (this.#over)
			return;
		const wasReady = this.#listeners.length > 0;

		this.#over = true;
		disown(this.#id);
		for (const { reject } of this.#requests.values())
			reject(closed('the server is closed'));
		this.#requests.clear();
		this.#letGo();
		this.#ready.reject(error ?? closed('the server is closed'));
		this.#closing?.resolve();
		if (!wasReady)
			return;
		if (error !== null && this.listenerCount('error') > 0)
			this.emit('error', error);
		this.emit('close');
	}

	#answer(number) {
		const request = this.#requests.get(number);

		this.#requests.delete(number);
		return request;
	}

	#request(method, params = null, list = null) {
		if (this.#over)
			return quiet(Promise.reject(closed('the server is closed')));
		const request = resolvers();
		const number = ++this.#number;

		this.#requests.set(number, request);
		if (!addon.request(this.#handle, number, method,
			params === null ? null : JSON.stringify(params), list)) {
			this.#requests.delete(number);
			request.reject(closed('the server is closed'));
		}
		return quiet(request.promise);
	}

	// What is wrong with its arguments is told at once, as a rejection too.
	#reload(method, make) {
		let list;

		try {
			list = make();
		} catch (error) {
			return quiet(Promise.reject(error));
		}
		const run = () => this.#request(method, null, list).then(nothing);

		return quiet(this.#reloads = quiet(this.#reloads.then(run, run)));
	}

	// Who is told of each channel to an alknet-* destination.
	onConnection(listener) {
		if (typeof listener !== 'function')
			throw badType(`onConnection: must be a function, not ${kindOf(listener)}`);
		return this.on('connection', listener);
	}

	sessions() {
		return quiet(this.#request('session.list').then(({ sessions }) => sessions.map((one) => ({
			id: one.id,
			state: one.state,
			user: one.user,
			identity: one.identity ?? null,
			keyFingerprint: one.key_fingerprint ?? null,
			remoteAddr: one.remote_addr,
			remotePort: one.remote_port,
			transportKind: one.transport,
			channels: one.channels,
			age: one.age,
		}))));
	}

	kill(id) {
		if (!Number.isSafeInteger(id) || id < 0)
			return quiet(Promise.reject(badType(
				'kill: the id must be a whole number, as sessions() has it')));
		return quiet(this.#request('session.kill', { id }).then(nothing));
	}

	// Other keys, or the same files again. Sessions that are open stay.
	reloadAuth(options = {}) {
		return this.#reload('keys.reload', () => settings(Object.fromEntries(authOptions.map((name) =>
			[name, serveOptions[name]])), options, [], {}));
	}

	// Where channels may go from now on.
	reloadForwarding(forwarding) {
		return this.#reload('policy.reload', () => {
			if (this.#scripted)
				throw badValue('reloadForwarding: the policy script decides where channels go: ' +
					'change that, and call reloadAll()');
			return ['policy_content', forwardingPolicy(forwarding, this.#services)];
		});
	}

	// Every file is read again.
	reloadAll() {
		return this.#reload('reload', () => []);
	}

	// Take no more, end the sessions.
	async close() {
		if (this.#over)
			return;
		this.#closing ??= resolvers();
		addon.stop(this.#handle, false);
		await this.#closing.promise;
	}
}

async function serve(options) {
	const list = settings(serveOptions, options, notSettings, {
		log_level: 'error',
		plugin_dir: pluginDir,
	});
	const { services = [], forwarding } = options;

	if (!Array.isArray(services) || !services.every((name) => typeof name === 'string'))
		throw badType('services: must be an array of names');
	for (const name of services.length > 0 ? services : ['none'])
		list.push('services', name);
	if (forwarding !== undefined && options.policy !== undefined)
		throw badType('forwarding: stands beside policy; give one of the two');
	if (forwarding !== undefined)
		list.push('policy_content', forwardingPolicy(forwarding, services));
	return new Server(list, options.policy !== undefined, services)._ready();
}

module.exports = { serve, Server };
