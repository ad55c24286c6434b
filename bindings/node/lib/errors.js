// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// What fails has a code and a sentence.
class AlknetError extends Error {
	constructor(code, message, more) {
		super(message);
		this.name = 'AlknetError';
		this.code = code;
		if (more !== undefined)
			Object.assign(this, more);
	}
}

const code = {
	config: 'ERR_ALKNET_CONFIG',
	connect: 'ERR_ALKNET_CONNECT',
	hostKey: 'ERR_ALKNET_HOSTKEY',
	auth: 'ERR_ALKNET_AUTH',
	timeout: 'ERR_ALKNET_TIMEOUT',
	closed: 'ERR_ALKNET_CLOSED',
};

// enum alk_embed_failure, and what binding.h has besides.
const failures = {
	0: code.closed,
	1: code.connect,
	2: code.hostKey,
	3: code.auth,
	4: code.timeout,
	5: code.closed,
	16: code.config,
};

// enum alk_open_failure.
const reasons = {
	1: 'prohibited', 2: 'failed', 3: 'unknown type', 4: 'resource shortage', 5: 'refused',
	6: 'unreachable', 7: 'timeout', 8: 'name', 9: 'gone',
};

// Sentences name the options of the command; here they have other names.
const names = new Map();

function ours(text) {
	return text.replace(/^([a-z_0-9]+)(?=: )/, (name) => names.get(name) ?? name)
		.replace(/--([a-z]+(?:-[a-z]+)*)/g, (all, flag) =>
			names.get(flag.replaceAll('-', '_')) ??
			flag.replace(/-(.)/g, (dash, letter) => letter.toUpperCase()));
}

function failed(number, text) {
	return new AlknetError(failures[number] ?? code.closed,
		ours(text || 'the session is closed'));
}

function refused(number, text, destination) {
	const is = number === 9 ? code.closed : number === 7 ? code.timeout : code.connect;

	return new AlknetError(is, `${destination}: ${text}`,
		{ reason: reasons[number] ?? 'failed', destination });
}

function closed(text = 'the stream is closed') {
	return new AlknetError(code.closed, text);
}

// An argument of the wrong kind.
function badType(text) {
	const error = new TypeError(text);

	error.code = code.config;
	return error;
}

function badValue(text) {
	return new AlknetError(code.config, text);
}

// As Node.js has them.
class AbortError extends Error {
	constructor(signal) {
		super('The operation was aborted', { cause: signal.reason });
		this.name = 'AbortError';
		this.code = 'ABORT_ERR';
	}
}

module.exports = { AlknetError, AbortError, badType, badValue, closed, code, failed, names, refused };
