// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const assert = require('assert');
const fs = require('fs');
const { once } = require('events');
const test = require('node:test');
const h = require('./harness');

test('reloadAuth: others may log in, who is in stays', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const k = h.keys();
	const stream = await h.connected(t, server);
	const stranger = h.clientOptions(server, { identity: k.at('bare') });

	await assert.rejects(h.connect(stranger), { code: 'ERR_ALKNET_AUTH' });
	await server.reloadAuth({ authorizedKeys: k.read('stranger.pub') });
	await (await h.connect(stranger)).close();
	await assert.rejects(h.connect(h.clientOptions(server)), { code: 'ERR_ALKNET_AUTH' });
	await stream.write('still here');
	assert.strictEqual(String(await stream.read(100)), 'still here');
	await server.reloadAuth({ authorizedKeys: k.at('user.pub'), certAuthority: k.at('ca.pub') });
	await (await h.connect(h.clientOptions(server))).close();
	await (await h.connect({ ...stranger, certificate: k.read('stranger-cert.pub') })).close();
});

test('reloads that fail change nothing, and come one after the other', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const k = h.keys();
	const results = await Promise.allSettled([
		server.reloadAuth({ authorizedKeys: Buffer.from('nonsense') }),
		server.reloadAuth({ authorizedKeys: k.at('nowhere') }),
		server.reloadForwarding({ default: 'deny' }),
		server.reloadAll(),
	]);

	assert.deepStrictEqual(results.map(({ status }) => status), ['rejected', 'rejected', 'fulfilled', 'fulfilled']);
	assert.strictEqual(results[0].reason.code, 'ERR_ALKNET_CONFIG');
	await (await h.connect(h.clientOptions(server))).close();
	await assert.rejects(server.reloadAuth({ hostKey: 'x' }), { name: 'TypeError' });
	await assert.rejects(server.reloadAuth(1), { name: 'TypeError' });
});

test('reloadAll reads the files again', async (t) => {
	const k = h.keys();
	const file = k.at('changing');

	fs.copyFileSync(k.at('user.pub'), file);
	const server = await h.serving(t, { authorizedKeys: file }, h.echo);

	fs.copyFileSync(k.at('stranger.pub'), file);
	await (await h.connect(h.clientOptions(server))).close();
	await server.reloadAll();
	await assert.rejects(h.connect(h.clientOptions(server)), { code: 'ERR_ALKNET_AUTH' });
	fs.rmSync(file);
	await assert.rejects(server.reloadAll(), { code: 'ERR_ALKNET_CONFIG', message: /No such file/ });
	await (await h.connect(h.clientOptions(server, { identity: k.at('bare') }))).close();
});

test('reloadForwarding: default and rules', async (t) => {
	const target = await h.tcpEcho(t);
	const server = await h.serving(t, { forwarding: { default: 'deny' } }, h.echo);
	const to = (destination) => h.connect(h.clientOptions(server, { destination })).then((stream) => stream.close());
	const denied = { code: 'ERR_ALKNET_CONNECT', reason: 'prohibited' };
	const at = `127.0.0.1:${target}`;

	await assert.rejects(to(at), denied);
	await to('alknet-mine:1'); // the program's, whatever the rules say
	for (const [forwarding, good] of [
		[{ default: 'deny', rules: [{ allow: at }] }, true],
		[{ default: 'deny', rules: [{ allow: '127.0.0.0/8:*' }] }, true],
		[{ default: 'deny', rules: [{ allow: `127.0.0.1:${target}-${target}`, identity: 'SHA256:*' }] }, true],
		[{ default: 'deny', rules: [{ allow: at, identity: 'somebody' }] }, false],
		[{ default: 'deny', rules: [{ allow: '10.0.0.0/8' }] }, false],
		[{ default: 'allow', rules: [{ deny: '127.0.0.1:1-1' }] }, true],
		[{ rules: [{ deny: '127.*' }, { allow: at }] }, false],
		[{ rules: [{ deny: '10.*' }, { allow: at }] }, true],
		[{ rules: [{ deny: '127.0.0.1' }, { allow: at }] }, false],
		[{ default: 'deny', rules: [{ allow: '[::1]:22' }, { allow: '"]] os.exit() --' }] }, null],
	]) {
		if (good === null) {
			await assert.rejects(server.reloadForwarding(forwarding), { code: 'ERR_ALKNET_CONFIG' });
			continue;
		}
		await server.reloadForwarding(forwarding);
		if (good)
			await to(at);
		else
			await assert.rejects(to(at), denied);
	}
	await server.reloadForwarding({ default: 'deny', rules: [{ allow: 'LOCAL*st' }] });
	await to(`localhost:${target}`);
	for (const forwarding of [undefined, null, 1, { default: 'maybe' }, { rules: {} }, { rules: [1] }, { nonsense: 1 },
		{ rules: [{}] }, { rules: [{ allow: 'a', deny: 'b' }] }, { rules: [{ allow: 'a:9-1' }] },
		{ rules: [{ allow: '' }] }, { rules: [{ allow: 'x', port: 1 }] }, { rules: [{ allow: 'x', via: 1 }] }])
		await assert.rejects(server.reloadForwarding(forwarding), { code: 'ERR_ALKNET_CONFIG' });
	await assert.rejects(server.reloadForwarding({ rules: [{ allow: '10.0.0.1/8' }] }), { code: 'ERR_ALKNET_CONFIG' });
});

test('sessions, kill and the events of sessions', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const seen = [];
	const opened = new Promise((resolve) => server.on('session', (event) => {
		seen.push(event);
		if (event.type === 'open')
			resolve();
	}));
	const stream = await h.connected(t, server);

	await opened;
	const [session] = await server.sessions();

	assert.strictEqual(session.user, 'tester');
	assert.strictEqual(session.channels, 1);
	assert.strictEqual(session.transportKind, 'tcp');
	const gone = new Promise((resolve) => stream.on('close', resolve));
	const ended = new Promise((resolve) => server.on('session', (event) => event.type === 'close' && resolve(event)));

	stream.on('error', () => {});
	await server.kill(session.id);
	await gone;
	assert.strictEqual((await ended).id, session.id);
	assert.deepStrictEqual([seen[0].type, seen[0].user], ['open', 'tester']);
	await assert.rejects(server.kill(session.id), /there is no session/);
	for (const id of ['1', -1, 1.5, undefined])
		await assert.rejects(server.kill(id), { name: 'TypeError' });
	assert.deepStrictEqual(await server.sessions(), []);
});

test('without a listener of connections there are none', async (t) => {
	const server = await h.serving(t);
	const listener = h.echo;

	await assert.rejects(h.connect(h.clientOptions(server)), { code: 'ERR_ALKNET_CONNECT', reason: 'prohibited' });
	server.onConnection(listener);
	await (await h.connect(h.clientOptions(server))).close();
	server.off('connection', listener);
	await assert.rejects(h.connect(h.clientOptions(server)), { reason: 'prohibited' });
	assert.throws(() => server.onConnection(1), { name: 'TypeError' });
});

test('close ends the sessions, and all that is asked for later', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const stream = await h.connected(t, server);
	const ends = new Promise((resolve) => stream.on('close', resolve));
	const closed = once(server, 'close');
	const asked = [server.sessions(), server.reloadAll()];

	await Promise.all([server.close(), server.close(), ends, closed]);
	for (const answer of asked)
		await answer.catch((error) => assert.strictEqual(error.code, 'ERR_ALKNET_CLOSED'));
	assert.ok(server.closed);
	await server.close();
	for (const late of [server.sessions(), server.kill(1), server.reloadAll(), server.reloadAuth()])
		await assert.rejects(late, { code: 'ERR_ALKNET_CLOSED' });
});

test('two servers and many clients in one process', async (t) => {
	const servers = await Promise.all([1, 2, 3].map((i) => h.serving(t, {}, ({ stream }) => stream.end(`server ${i}`))));

	for (let round = 0; round < 10; round++)
		await Promise.all(servers.map(async (server, i) => {
			const stream = await h.connect(h.clientOptions(server));

			assert.strictEqual(String(await stream.read(100)), `server ${i + 1}`);
			await stream.close();
		}));
});

test('what a listener throws is the program\'s', async (t) => {
	const run = h.script(t, `
		const h = require(process.env.TOP + '/test/harness');
		(async () => {
			const server = await h.serve(h.serverOptions());
			server.onConnection(() => { throw new Error('of the listener'); });
			process.on('uncaughtException', async (error) => {
				console.log('caught', error.message);
				await server.close();
				console.log('closed');
			});
			const stream = await h.connect(h.clientOptions(server));
			stream.on('error', () => {});
			await stream.read(1).catch(() => {});
		})();`);

	await run.line(/^caught of the listener/);
	await run.line(/^closed/);
	assert.deepStrictEqual(await run.ended, [0, null]);
});
