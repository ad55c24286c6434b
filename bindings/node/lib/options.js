// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// Options of JavaScript as settings of alknet: [NAME, VALUE, ...].
const { fileURLToPath } = require('url');
const { badType, badValue, names } = require('./errors');

function kindOf(value) {
	if (value === null)
		return 'null';
	return Array.isArray(value) ? 'an array' : typeof value;
}

function text(name, value) {
	if (typeof value !== 'string')
		throw badType(`${name}: must be a string, not ${kindOf(value)}`);
	if (value === '')
		throw badValue(`${name}: is empty`);
	if (value.includes('\0'))
		throw badValue(`${name}: there is a NUL in it`);
	return value;
}

function flag(name, value) {
	if (typeof value !== 'boolean')
		throw badType(`${name}: must be true or false, not ${kindOf(value)}`);
	return String(value);
}

// Milliseconds, or as alknet writes it: '15s'.
function time(name, value) {
	if (typeof value === 'string')
		return text(name, value);
	if (typeof value !== 'number')
		throw badType(`${name}: must be a number of milliseconds, not ${kindOf(value)}`);
	if (!Number.isFinite(value) || value < 0)
		throw badValue(`${name}: must be a number of milliseconds from 0 up, not ${value}`);
	return `${Math.round(value)}ms`;
}

// No path has lines, begins as PEM does, or has a public key in it: a type and the base64 of its length, with options
// before it perhaps. All else that has one line alone may be a path.
function isContent(value) {
	return value.includes('\n') || value.startsWith('-----BEGIN ') ||
		/(?:^|\s)(?:ssh|ecdsa|sk)-\S+\s+AAAA/.test(value);
}

// A path, or the content: [suffix of the option's name, value].
function file(name, value) {
	if (value instanceof URL) {
		if (value.protocol !== 'file:')
			throw badValue(`${name}: is a URL of ${value.protocol}, not of a file`);
		return ['', fileURLToPath(value)];
	}
	if (value instanceof Uint8Array) {
		const content = Buffer.from(value.buffer, value.byteOffset, value.byteLength);

		if (content.length === 0)
			throw badValue(`${name}: is empty`);
		if (content.includes(0))
			throw badValue(`${name}: there is a NUL in it`);
		return ['_content', content.toString('utf8')];
	}
	if (typeof value !== 'string')
		throw badType(`${name}: must be a path or a Buffer, not ${kindOf(value)}`);
	text(name, value);
	return [isContent(value) ? '_content' : '', value];
}

function list(name, value, one) {
	const values = Array.isArray(value) ? value : [value];

	if (values.length === 0)
		throw badValue(`${name}: is an empty list`);
	return values.map((element) => one(name, element));
}

const put = {
	text: (out, option, name, value) => out.push(option, text(name, value)),
	flag: (out, option, name, value) => out.push(option, flag(name, value)),
	time: (out, option, name, value) => out.push(option, time(name, value)),
	file: (out, option, name, value) => {
		const [suffix, content] = file(name, value);

		out.push(option + suffix, content);
	},
	files: (out, option, name, value) => {
		for (const [suffix, content] of list(name, value, file))
			out.push(option + suffix, content);
	},
	texts: (out, option, name, value) => {
		for (const one of list(name, value, text))
			out.push(option, one);
	},
};

const shared = {
	transport: ['transport', put.text],
	proxy: ['proxy', put.text],
	irohRelay: ['iroh_relay', put.text],
	keepalive: ['keepalive', put.time],
};

const connectOptions = {
	...shared,
	server: ['server', put.text],
	peer: ['peer', put.text],
	identity: ['identity', put.file],
	certificate: ['certificate', put.file],
	passphrase: ['identity_passphrase', put.text],
	user: ['user', put.text],
	tlsServerName: ['tls_server_name', put.text],
	insecure: ['insecure', put.flag],
	stealthSecret: ['stealth_secret', put.text],
	knownHosts: ['known_hosts', put.text],
	acceptNewHostKey: ['accept_new_host_key', put.flag],
	hostKeyFingerprint: ['host_key_fingerprint', put.text],
	timeout: ['handshake_timeout', put.time],
};

const serveOptions = {
	...shared,
	hostKey: ['key', put.files],
	authorizedKeys: ['authorized_keys', put.file],
	certAuthority: ['cert_authority', put.files],
	revokedKeys: ['revoked_keys', put.file],
	tlsCert: ['tls_cert', put.file],
	tlsKey: ['tls_key', put.file],
	acmeDomain: ['acme_domain', put.texts],
	stealth: ['stealth', put.flag],
	stealthSecret: ['stealth_secret', put.text],
	listen: ['listen', put.texts],
	policy: ['policy', put.file],
};

for (const [name, [option]] of Object.entries({ ...connectOptions, ...serveOptions }))
	names.set(option, name);

// Any other option of alknet, by its own name.
function raw(out, settings) {
	if (typeof settings !== 'object' || settings === null || Array.isArray(settings))
		throw badType(`settings: must be an object, not ${kindOf(settings)}`);
	for (const [name, value] of Object.entries(settings))
		for (const one of Array.isArray(value) ? value : [value]) {
			if (!['string', 'number', 'boolean'].includes(typeof one))
				throw badType(`settings.${name}: must be a string, a number or a boolean`);
			out.push(text('settings', name), text(`settings.${name}`, String(one)));
		}
}

function nearest(name, names) {
	const low = name.toLowerCase().replaceAll('_', '');

	return names.find((known) => known.toLowerCase() === low);
}

// `more`: names that are not settings, which the caller looks at.
function settings(table, options, more, defaults) {
	const out = [];

	if (typeof options !== 'object' || options === null || Array.isArray(options))
		throw badType(`the options must be an object, not ${kindOf(options)}`);
	for (const [name, value] of Object.entries(options)) {
		if (value === undefined || more.includes(name))
			continue;
		if (!Object.hasOwn(table, name)) {
			const known = nearest(name, [...Object.keys(table), ...more]);

			throw badType(`${name}: there is no such option` +
				(known ? `; did you mean ${known}?` : ''));
		}
		table[name][1](out, table[name][0], name, value);
	}
	if (options.settings !== undefined)
		raw(out, options.settings);
	for (const [name, value] of Object.entries(defaults))
		if (value !== undefined && !out.includes(name))
			out.push(name, value);
	return out;
}

// host:port, [v6]:port, or the path of a unix socket at the server.
function destination(value) {
	const bad = `destination: must be HOST:PORT or the path of a unix socket, not "${value}"`;

	text('destination', value);
	if (value.startsWith('/')) {
		if (Buffer.byteLength(value) > 107)
			throw badValue('destination: a path of more than 107 bytes is none of a unix socket');
		return { host: value, port: 0 };
	}
	const match = /^(?:\[([^\]]+)\]|([^:\s]+)):(\d{1,5})$/.exec(value);

	if (match === null)
		throw badValue(bad);
	const host = match[1] ?? match[2];
	const port = Number(match[3]);

	// Port 0 means something at a reserved destination alone.
	if (port > 65535 || (port === 0 && !host.startsWith('alknet-')))
		throw badValue(bad);
	if (Buffer.byteLength(host) > 255)
		throw badValue('destination: the name has more than 255 bytes');
	return { host, port };
}

module.exports = { connectOptions, serveOptions, settings, destination, kindOf, text };
