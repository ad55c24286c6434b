// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// Beside programs that are not this one: ssh, sshd, alknet.
const assert = require('assert');
const crypto = require('crypto');
const { once } = require('events');
const { spawn } = require('child_process');
const test = require('node:test');
const h = require('./harness');

function ssh(t, server, args) {
	const k = h.keys();
	const [host, port] = server.listenAddr.split(':');
	const child = spawn('ssh', ['-F', 'none', '-i', k.at('user'), '-p', port, '-l', 'tester', '-o', 'IdentitiesOnly=yes',
		'-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR', ...args, host],
	{ stdio: ['pipe', 'pipe', 'inherit'] });

	t.after(() => child.kill());
	return child;
}

test('ssh -W to a listener of connections', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const child = ssh(t, server, ['-W', 'alknet-echo:1']);

	child.stdin.end('from ssh');
	assert.strictEqual(String(await h.readAll(child.stdout)), 'from ssh');
});

test('ssh forwards through our server', async (t) => {
	const target = await h.tcpEcho(t);
	const server = await h.serving(t);
	const child = ssh(t, server, ['-W', `127.0.0.1:${target}`]);

	child.stdin.end('from ssh');
	assert.strictEqual(String(await h.readAll(child.stdout)), 'from ssh');
});

test('our client through sshd', async (t) => {
	const { address, user } = await h.sshd(t);
	const target = await h.tcpEcho(t);
	const options = h.clientOptions(address, { user, destination: `127.0.0.1:${target}` });
	const stream = await h.connect(options);
	const total = 16 * 2 ** 20;
	const hash = crypto.createHash('sha256');

	t.after(() => stream.close());
	stream.on('data', (part) => hash.update(part));
	const ended = once(stream, 'end');

	for (const part of h.bytes(total))
		if (!stream.write(part, () => {}))
			await once(stream, 'drain');
	stream.end();
	await ended;
	assert.strictEqual(hash.digest('hex'), h.digest(total));
	await assert.rejects(h.connect({ ...options, destination: `127.0.0.1:${await h.refusedPort(t)}` }),
		{ code: 'ERR_ALKNET_CONNECT', reason: 'refused' });
	await assert.rejects(h.connect({ ...options, identity: h.keys().read('bare') }), { code: 'ERR_ALKNET_AUTH' });
});

test('our client through alknet serve', async (t) => {
	const { address, run } = await h.alknetServe(t);
	const target = await h.tcpEcho(t);
	const stream = await h.connect(h.clientOptions(address, { destination: `127.0.0.1:${target}` }));
	const gone = new Promise((resolve) => stream.on('close', resolve));

	await stream.write('through alknet');
	assert.strictEqual(String(await stream.read(100)), 'through alknet');
	await assert.rejects(stream.open('alknet-nonsense:1'), { reason: 'prohibited' });
	// It ends the channels first, and then the session: whichever is heard of, somebody has to read to hear it.
	const last = stream.read(1).then((bytes) => bytes.length, (error) => error.code);

	run.child.kill('SIGTERM');
	assert.ok([0, 'ERR_ALKNET_CLOSED'].includes(await last));
	await gone;
	await assert.rejects(stream.write('x'), { code: 'ERR_ALKNET_CLOSED' });
});

test('alknet connect --stdio to our server', async (t) => {
	const path = require('path');
	const server = await h.serving(t, {}, h.echo);
	const k = h.keys();
	const alknet = process.env.ALKNET ?? path.join(h.top, '..', '..', 'build', 'alknet');
	const child = spawn(alknet, ['connect', '--server', server.listenAddr, '--identity', k.at('user'),
		'--host-key-fingerprint', k.fingerprint, '--stdio', 'alknet-echo:1'], {
		stdio: ['pipe', 'pipe', 'inherit'],
		env: { ...process.env, ALKNET_PLUGIN_DIR: process.env.ALKNET_PLUGIN_DIR ??
			path.join(h.top, '..', '..', 'build', 'plugins', '.libs') },
	});

	t.after(() => child.kill());
	child.stdin.end('from alknet');
	assert.strictEqual(String(await h.readAll(child.stdout)), 'from alknet');
});
