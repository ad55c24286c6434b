// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// Finds the addon and hands its events to whom they belong.
const fs = require('fs');
const os = require('os');
const path = require('path');
const { isMainThread } = require('worker_threads');

const top = path.join(__dirname, '..');
const kinds = ['up', 'lost', 'closed', 'opened', 'refused', 'data', 'eof', 'wrote', 'ended', 'gone',
	'ready', 'channel', 'answer', 'failed', 'watched'];

function places() {
	const libc = fs.existsSync('/lib/ld-musl-x86_64.so.1') ? 'musl' : 'glibc';

	return [
		path.join(top, 'build', 'Release', 'alknet-napi.node'),
		path.join(top, 'prebuilds', `${process.platform}-${process.arch}`,
			`alknet-napi.${libc}.node`),
	];
}

function load() {
	const file = process.env.ALKNET_NAPI || places().find((place) => fs.existsSync(place));
	const { dlopen } = os.constants;
	const module = { exports: {} };

	if (file === undefined)
		throw new Error('alknet-napi is not built: run `npm install` in ' + top +
			', or `node build.js` there');
	// Node.js has an OpenSSL of its own in it, whose functions libssh would find before the ones it was made
	// for. The sanitizers do not go together with that.
	process.dlopen(module, file, dlopen.RTLD_NOW |
		(process.env.ALKNET_NAPI_SHALLOW ? 0 : dlopen.RTLD_DEEPBIND));
	return { addon: module.exports, file };
}

const { addon, file } = load();
const owners = new Map();
let last = 0;
let busy = 0;

function own(owner) {
	owners.set(++last, owner);
	return last;
}

function adopt(id, owner) {
	owners.set(id, owner);
}

function disown(id) {
	owners.delete(id);
}

// What has something to wait for keeps the process alive.
function hold() {
	if (busy++ === 0)
		addon.keepAlive(true);
}

function release() {
	if (--busy === 0)
		addon.keepAlive(false);
}

// What a listener throws is the program's: it goes where other exceptions of listeners go, and the rest of
// the events is told all the same.
function dispatch(events) {
	for (let i = 0; i < events.length; i += 4) {
		try {
			owners.get(events[i + 1])?._event(kinds[events[i]], events[i + 2], events[i + 3]);
		} catch (error) {
			process.nextTick(() => { throw error; });
		}
	}
}

addon.begin(dispatch);
// In the main thread, before the libraries' own cleanups run; a worker's end is its environment's.
if (isMainThread)
	process.on('exit', () => addon.end());

// Where the plugins are, if they are not where libalknet looks.
function pluginDir() {
	const beside = path.join(path.dirname(file), 'plugins');
	const told = path.join(path.dirname(file), 'plugin_dir');

	if (process.env.ALKNET_PLUGIN_DIR)
		return undefined;
	if (fs.existsSync(beside))
		return beside;
	return fs.existsSync(told) ? fs.readFileSync(told, 'utf8').trim() : undefined;
}

module.exports = { addon, own, adopt, disown, hold, release, pluginDir: pluginDir() };
