// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// What the tests share: keys, a directory of the test's own, programs that are ended with it.
const { execFileSync, spawn } = require('child_process');
const crypto = require('crypto');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');
const { once } = require('events');

const top = path.join(__dirname, '..');
const napi = require('..');

// A test that hangs ends its file after five minutes, with its name. (What is started from one has no tests, and
// node:test would hear of its exceptions.)
if (require.main?.filename.endsWith('.test.js')) {
	let running = 'the file itself';
	const timer = setTimeout(() => {
		console.error(`${require.main.filename} hangs: ${running}`);
		process.exit(1);
	}, 300000).unref();

	require('node:test').beforeEach((t) => {
		running = t?.name ?? running;
		timer.refresh();
	});
}

let made;

// A directory with keys, one for the whole file; nothing in it is changed by a test.
function keys() {
	if (made !== undefined)
		return made;
	const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'alknet-node-'));
	const at = (name) => path.join(dir, name);
	const keygen = (...args) => execFileSync('ssh-keygen', ['-q', ...args], { cwd: dir });

	process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
	fs.chmodSync(dir, 0o700);
	for (const name of ['host', 'user', 'stranger', 'ca'])
		keygen('-t', 'ed25519', '-N', '', '-C', name, '-f', name);
	keygen('-t', 'ed25519', '-N', 'open sesame', '-f', 'locked');
	keygen('-s', 'ca', '-I', 'tester', '-n', 'tester', 'stranger.pub');
	fs.copyFileSync(at('stranger'), at('bare'));
	fs.chmodSync(at('bare'), 0o600);
	fs.writeFileSync(at('authorized'), fs.readFileSync(at('user.pub')) + fs.readFileSync(at('locked.pub')));
	made = {
		dir, at,
		read: (name) => fs.readFileSync(at(name)),
		fingerprint: execFileSync('ssh-keygen', ['-lf', at('host.pub')], { encoding: 'utf8' })
			.split(' ')[1],
	};
	return made;
}

function serverOptions(more = {}) {
	const k = keys();

	return { hostKey: k.at('host'), authorizedKeys: k.at('authorized'), listen: '127.0.0.1:0', ...more };
}

function clientOptions(server, more = {}) {
	const k = keys();

	return {
		server: typeof server === 'string' ? server : server.listenAddr,
		identity: k.at('user'),
		hostKeyFingerprint: k.fingerprint,
		user: 'tester',
		...more,
	};
}

// A server that is closed with the test.
async function serving(t, more = {}, onConnection = undefined) {
	const server = await napi.serve(serverOptions(more));

	t.after(() => server.close());
	if (onConnection !== undefined)
		server.onConnection(onConnection);
	return server;
}

const echo = ({ stream }) => {
	stream.on('error', () => stream.destroy());
	stream.pipe(stream);
};

async function connected(t, server, more = {}) {
	const stream = await napi.connect(clientOptions(server, more));

	t.after(() => stream.close());
	return stream;
}

// A program that is ended with the test. Lines of its stderr and stdout go to `lines`.
function program(t, file, args, options = {}) {
	const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
	const lines = [];
	const waits = [];
	const ended = once(child, 'close');

	for (const output of [child.stdout, child.stderr]) {
		let rest = '';

		output?.setEncoding('utf8').on('data', (text) => {
			const parts = (rest + text).split('\n');

			rest = parts.pop();
			for (const line of parts) {
				lines.push(line);
				for (const wait of waits)
					wait(line);
			}
		});
	}
	t.after(async () => {
		if (child.exitCode === null && child.signalCode === null)
			child.kill();
		await ended;
	});
	return {
		child, lines, ended,
		// The first match of a line that was or will be printed.
		line: (regex) => new Promise((resolve, reject) => {
			const look = (line) => {
				const match = regex.exec(line);

				if (match !== null)
					resolve(match);
			};

			lines.forEach(look);
			waits.push(look);
			ended.then(() => reject(new Error(`${file} ended: ${lines.join('\n')}`)));
		}),
	};
}

async function freePort() {
	const listener = net.createServer().listen(0, '127.0.0.1');

	await once(listener, 'listening');
	const { port } = listener.address();

	listener.close();
	await once(listener, 'close');
	return port;
}

// A TCP server that is closed with the test, and its connections.
async function tcpServer(t, onSocket) {
	const sockets = new Set();
	const listener = net.createServer({ allowHalfOpen: true }, (socket) => {
		sockets.add(socket);
		socket.on('error', () => socket.destroy());
		socket.on('close', () => sockets.delete(socket));
		onSocket(socket);
	}).listen(0, '127.0.0.1');

	await once(listener, 'listening');
	t.after(() => {
		listener.close();
		for (const socket of sockets)
			socket.destroy();
	});
	return listener.address().port;
}

// A port on which nobody listens, and nobody else can: a connection of ours goes out from it as long as the test runs.
async function refusedPort(t) {
	const socket = net.connect(await tcpServer(t, () => {}), '127.0.0.1');

	t.after(() => socket.destroy());
	await once(socket, 'connect');
	return socket.localPort;
}

const tcpEcho = (t) => tcpServer(t, (socket) => socket.pipe(socket));

async function readAll(stream) {
	const parts = [];

	for await (const part of stream)
		parts.push(part);
	return Buffer.concat(parts);
}

// What waits for so many ms waits for 100, as long as the test runs.
function impatient(t, ms) {
	for (const name of ['setTimeout', 'setInterval']) {
		const real = globalThis[name];

		t.after(() => { globalThis[name] = real; });
		globalThis[name] = (fn, after, ...args) => real(fn, after === ms ? 100 : after, ...args);
	}
}

// Bytes that are the same in every run and not the same twice in a stream.
function* bytes(total, chunk = 65536) {
	const cipher = crypto.createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16));
	const zero = Buffer.alloc(chunk);

	for (let left = total; left > 0; left -= chunk)
		yield cipher.update(left < chunk ? zero.subarray(0, left) : zero);
}

function digest(total) {
	const hash = crypto.createHash('sha256');

	for (const part of bytes(total))
		hash.update(part);
	return hash.digest('hex');
}

// sshd, unprivileged on a port of its own, that lets `user` in.
async function sshd(t) {
	const k = keys();
	const dir = fs.mkdtempSync(path.join(k.dir, 'sshd-'));
	const config = path.join(dir, 'config');
	const name = os.userInfo().username;

	if (process.getuid() === 0)
		fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
	// It cannot say which port it took for 0: ports are tried until one is free.
	for (let attempt = 1; ; attempt++) {
		const port = await freePort();

		fs.writeFileSync(config, `ListenAddress 127.0.0.1:${port}\nHostKey ${k.at('host')}\n` +
			`AuthorizedKeysFile ${k.at('authorized')}\nPidFile none\nStrictModes no\nUsePAM no\n` +
			'AllowTcpForwarding yes\nMaxSessions 100\nMaxStartups 100\nPermitRootLogin yes\n');
		const run = program(t, '/usr/sbin/sshd', ['-D', '-e', '-f', config]);

		try {
			await run.line(/Server listening/);
			return { address: `127.0.0.1:${port}`, user: name, port };
		} catch (error) {
			if (attempt === 10 || !error.message.includes('in use'))
				throw error;
		}
	}
}

// alknet serve of the same build.
async function alknetServe(t, args = []) {
	const k = keys();
	const alknet = process.env.ALKNET ?? path.join(top, '..', '..', 'build', 'alknet');
	const run = program(t, alknet, ['serve', '--key', k.at('host'), '--authorized-keys', k.at('authorized'),
		'--listen', '127.0.0.1:0', '--admin-socket', 'none', '--workers', '1', ...args], {
		env: { ...process.env, ALKNET_PLUGIN_DIR: process.env.ALKNET_PLUGIN_DIR ??
			path.join(top, '..', '..', 'build', 'plugins', '.libs') },
	});
	const [, address] = await run.line(/msg="?listening"?.* address="?([0-9.]+:\d+)/);

	return { address, run };
}

// Another node, that runs `code` with what it needs. What it leaves when a signal ends it lies in our own directory.
function script(t, code, options = {}) {
	return program(t, process.execPath, [...(options.flags ?? []), '-e', code], {
		env: { ...process.env, TMPDIR: keys().dir, ...options.env, TOP: top },
	});
}

module.exports = {
	...napi, alknetServe, bytes, clientOptions, connected, digest, echo, impatient, keys, program, readAll, refusedPort,
	script, serverOptions, serving, sshd, tcpEcho, tcpServer, top,
};
