// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

const assert = require('assert');
const { execFileSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const { pathToFileURL } = require('url');
const test = require('node:test');
const { serveOptions, settings } = require('../lib/options');
const h = require('./harness');

const hasIpv6 = () => Object.values(os.networkInterfaces()).flat().some(({ address }) => address === '::1');

async function works(t, server, options) {
	const stream = await h.connect(options);

	await stream.write('hello');
	assert.strictEqual(String(await stream.read(100)), 'hello');
	await stream.close();
}

test('identity: path, Buffer, text, URL', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const k = h.keys();

	for (const identity of [k.at('user'), k.read('user'), new Uint8Array(k.read('user')),
		String(k.read('user')), pathToFileURL(k.at('user'))])
		await works(t, server, h.clientOptions(server, { identity }));
});

test('passphrase', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const k = h.keys();

	await works(t, server, h.clientOptions(server, { identity: k.read('locked'),
		passphrase: 'open sesame' }));
	await assert.rejects(h.connect(h.clientOptions(server, { identity: k.at('locked'), passphrase: 'wrong' })),
		{ code: 'ERR_ALKNET_CONFIG', message: /the passphrase for .* is wrong/ });
	await assert.rejects(h.connect(h.clientOptions(server, { identity: k.at('locked') })),
		{ code: 'ERR_ALKNET_CONFIG', message: /nobody can be asked/ });
});

test('certificate, certAuthority, user', async (t) => {
	const k = h.keys();
	const server = await h.serving(t, { authorizedKeys: undefined, certAuthority: [k.at('ca.pub'), k.read('host.pub')] },
		h.echo);
	const options = { identity: k.read('bare'), certificate: k.read('stranger-cert.pub') };

	await works(t, server, h.clientOptions(server, options));
	await works(t, server, h.clientOptions(server, { ...options, certificate: k.at('stranger-cert.pub') }));
	await assert.rejects(h.connect(h.clientOptions(server, { ...options, user: 'somebody' })),
		{ code: 'ERR_ALKNET_AUTH' });
	await assert.rejects(h.connect(h.clientOptions(server, { identity: k.read('bare') })),
		{ code: 'ERR_ALKNET_AUTH' });
});

test('knownHosts, acceptNewHostKey, hostKeyFingerprint', async (t) => {
	const server = await h.serving(t, {}, h.echo);
	const k = h.keys();
	const knownHosts = k.at('known');
	const base = h.clientOptions(server, { hostKeyFingerprint: undefined, knownHosts });

	await assert.rejects(h.connect(base), { code: 'ERR_ALKNET_HOSTKEY',
		message: /is not known.* acceptNewHostKey once, or hostKeyFingerprint SHA256/ });
	await works(t, server, { ...base, acceptNewHostKey: true });
	await works(t, server, base);
	fs.writeFileSync(knownHosts, `[127.0.0.1]:${server.listenAddr.split(':')[1]} ${k.read('user.pub')}`);
	await assert.rejects(h.connect(base), { code: 'ERR_ALKNET_HOSTKEY', message: /CHANGED/ });
	await assert.rejects(h.connect(h.clientOptions(server, {
		hostKeyFingerprint: 'SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' })),
	{ code: 'ERR_ALKNET_HOSTKEY' });
});

test('wrong keys', async (t) => {
	const server = await h.serving(t);
	const k = h.keys();

	await assert.rejects(h.connect(h.clientOptions(server, { identity: k.at('bare') })),
		{ code: 'ERR_ALKNET_AUTH', message: /refused the key/ });
	for (const [identity, says] of [
		[Buffer.from('nonsense'), /\(identity\)/],
		[k.read('user.pub'), /\(identity\) is a public key/],
		[Buffer.from('-----BEGIN RSA PRIVATE KEY-----\nAAAA\n'), /PEM/],
		[k.read('user').subarray(0, 200), /\(identity\)/],
		[k.at('nowhere'), /No such file/],
		[k.dir, /is a directory/],
	])
		await assert.rejects(h.connect(h.clientOptions(server, { identity })),
			{ code: 'ERR_ALKNET_CONFIG', message: says });
});

test('hostKey and authorizedKeys: path and Buffer', async (t) => {
	const k = h.keys();

	for (const hostKey of [k.read('host'), k.at('host'), [k.read('host')]])
		for (const authorizedKeys of [k.read('user.pub'), k.at('user.pub'), String(k.read('user.pub'))]) {
			const server = await h.serving(t, { hostKey, authorizedKeys }, h.echo);

			await works(t, server, h.clientOptions(server));
			await server.close();
		}
});

test('text of one line: content that is no path, paths that are no content', async (t) => {
	const k = h.keys();
	const line = (name) => String(k.read(name)).trim();
	const server = await h.serving(t, { authorizedKeys: `no-pty ${line('user.pub')}`, certAuthority: line('ca.pub') }, h.echo);

	await works(t, server, h.clientOptions(server));
	await works(t, server, h.clientOptions(server, { identity: k.at('bare'), certificate: line('stranger-cert.pub') }));
	const is = (value) => settings(serveOptions, { authorizedKeys: value }, [], {})[0];

	for (const content of ['ssh-ed25519 AAAAC3Nz', 'ssh-ed25519 AAAAC3Nz me', 'ssh-ed25519-cert-v01@openssh.com AAAAIHNz',
		'ecdsa-sha2-nistp256 AAAAE2Vj me', 'sk-ssh-ed25519@openssh.com AAAAGnNr', 'ssh-rsa\tAAAAB3Nz', 'restrict ssh-ed25519 AAAAC3Nz',
		'cert-authority,principals="a b" ssh-ed25519 AAAAC3Nz', 'command="echo a",from="*.x, y" ssh-rsa AAAAB3Nz me',
		'-----BEGIN OPENSSH PRIVATE KEY-----', '-----BEGIN CERTIFICATE-----MIIB-----END CERTIFICATE-----', '#\n'])
		assert.strictEqual(is(content), 'authorized_keys_content', content);
	for (const path of ['/home/me/.ssh/authorized_keys', 'ssh-ed25519', 'ssh-ed25519 AAA', '/keys/ssh-rsa/AAAA', 'my ssh-keys/AAAA',
		'id_ssh-rsa AAAA', '-----BEGIN', 'x -----BEGIN y'])
		assert.strictEqual(is(path), 'authorized_keys', path);
	await assert.rejects(h.connect(h.clientOptions(server, { identity: '-----BEGIN RSA PRIVATE KEY-----' })),
		{ code: 'ERR_ALKNET_CONFIG', message: /PEM/ });
});

test('tls: tlsCert, tlsKey, tlsServerName, insecure, stealth', async (t) => {
	const k = h.keys();

	execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
		'-keyout', k.at('tls.key'), '-out', k.at('tls.crt'), '-subj', '/CN=example.test', '-days', '2',
		'-addext', 'subjectAltName=DNS:example.test'], { stdio: 'ignore' });
	fs.chmodSync(k.at('tls.key'), 0o600);
	for (const options of [{ tlsCert: k.at('tls.crt'), tlsKey: k.at('tls.key') },
		{ tlsCert: k.read('tls.crt'), tlsKey: k.read('tls.key'), stealth: true }]) {
		const server = await h.serving(t, { transport: 'tls', ...options }, h.echo);
		const client = h.clientOptions(server, { transport: 'tls', tlsServerName: 'example.test' });

		await works(t, server, { ...client, insecure: true });
		await assert.rejects(h.connect(client), { code: 'ERR_ALKNET_CONNECT', message: /certificate/i });
		const stream = await h.connect({ ...client, insecure: true });

		assert.strictEqual(stream.info.transportKind, 'tls');
		await stream.close();
		await server.close();
	}
});

test('a transport that has no plugin', async (t) => {
	for (const peer of [undefined, 'aa'.repeat(32)]) {
		const options = h.clientOptions('127.0.0.1:1', { transport: 'nosuch' });

		if (peer !== undefined) {
			delete options.server;
			options.peer = peer;
		}
		await assert.rejects(h.connect(options), { code: 'ERR_ALKNET_CONFIG', message: /nosuch|peer/ });
	}
	await assert.rejects(h.serve(h.serverOptions({ transport: 'nosuch' })),
		{ code: 'ERR_ALKNET_CONFIG', message: /nosuch/ });
});

test('proxy, of the client and of the server', async (t) => {
	const net = require('net');
	const asked = [];
	const port = await h.tcpServer(t, (socket) => {
		socket.once('data', (head) => {
			const [, host, to] = /^CONNECT (.*):(\d+) HTTP/.exec(String(head));
			const out = net.connect(Number(to), host, () => {
				socket.write('HTTP/1.1 200 OK\r\n\r\n');
				socket.pipe(out).pipe(socket);
			});

			asked.push(`${host}:${to}`);
			out.on('error', () => socket.destroy());
			socket.on('close', () => out.destroy());
		});
	});
	const target = await h.tcpEcho(t);
	const proxy = `http://127.0.0.1:${port}`;
	const plain = await h.serving(t, {}, h.echo);
	const proxied = await h.serving(t, { proxy }, h.echo);

	await works(t, plain, h.clientOptions(plain, { proxy }));
	assert.deepStrictEqual(asked, [plain.listenAddr]);
	// Of two servers and two clients in one process each has its own.
	await works(t, proxied, h.clientOptions(proxied, { destination: `127.0.0.1:${target}` }));
	await works(t, plain, h.clientOptions(plain, { destination: `127.0.0.1:${target}` }));
	assert.deepStrictEqual(asked, [plain.listenAddr, `127.0.0.1:${target}`]);
	await assert.rejects(h.connect(h.clientOptions(plain, { proxy: 'ftp://x' })),
		{ code: 'ERR_ALKNET_CONFIG', message: /proxy/ });
});

test('destination: any host and port, a unix socket, what is refused', async (t) => {
	const target = await h.tcpEcho(t);
	const server = await h.serving(t, {}, h.echo);

	await works(t, server, h.clientOptions(server, { destination: `127.0.0.1:${target}` }));
	await works(t, server, h.clientOptions(server, { destination: `localhost:${target}` }));
	for (const [destination, code, reason] of [
		[`127.0.0.1:${await h.refusedPort(t)}`, 'ERR_ALKNET_CONNECT', 'refused'],
		['/var/run/none.sock', 'ERR_ALKNET_CONNECT', 'prohibited'],
		['no-such-name.invalid:1', 'ERR_ALKNET_CONNECT', 'name'],
	])
		await assert.rejects(h.connect(h.clientOptions(server, { destination })),
			(error) => error.code === code && error.reason === reason && error.destination === destination);
	for (const destination of ['', 'x', 'x:', ':1', 'x:65536', 'x:0', 'a b:1', 'x:1:2', '/'.padEnd(200, 'x'), 'x\0:1'])
		await assert.rejects(h.connect(h.clientOptions(server, { destination })), { code: 'ERR_ALKNET_CONFIG' });
	for (const destination of [1, null, {}, []])
		await assert.rejects(h.connect(h.clientOptions(server, { destination })),
			{ code: 'ERR_ALKNET_CONFIG', name: 'TypeError' });
});

test('keepalive and timeout', async (t) => {
	const net = require('net');
	const silent = await h.tcpServer(t, () => {});
	const server = await h.serving(t, { keepalive: 5000 }, h.echo);

	await works(t, server, h.clientOptions(server, { keepalive: '15s', timeout: 30000 }));
	await works(t, server, h.clientOptions(server, { keepalive: 0 }));
	await assert.rejects(h.connect(h.clientOptions(`127.0.0.1:${silent}`, { timeout: 1000 })),
		{ code: 'ERR_ALKNET_TIMEOUT', message: /handshake timeout/ });
	for (const keepalive of [-1, NaN, 'soon'])
		await assert.rejects(h.connect(h.clientOptions(server, { keepalive })),
			{ code: 'ERR_ALKNET_CONFIG', message: /keepalive/ });
	assert.ok(net);
});

test('a peer that speaks no SSH', async (t) => {
	const port = await h.tcpServer(t, (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));

	await assert.rejects(h.connect(h.clientOptions(`127.0.0.1:${port}`)), { code: 'ERR_ALKNET_CONNECT' });
});

test('policy: path and Buffer, services', async (t) => {
	const k = h.keys();
	const script = 'return { on_open = function(_, to)\n' +
		'if to.host == "alknet-yes" then return "service", "program" end\n' +
		'if to.host == "alknet-bus" then return "service", "bus" end\n' +
		'return "deny", "no" end }\n';

	fs.writeFileSync(k.at('policy.lua'), script);
	for (const policy of [k.at('policy.lua'), Buffer.from(script)]) {
		const server = await h.serving(t, { policy, services: ['bus'] }, h.echo);

		await works(t, server, h.clientOptions(server, { destination: 'alknet-yes:1' }));
		await assert.rejects(h.connect(h.clientOptions(server)), { reason: 'prohibited' });
		const stream = await h.connect(h.clientOptions(server, { destination: 'alknet-bus:1' }));

		await stream.close();
		await assert.rejects(server.reloadForwarding({}), { code: 'ERR_ALKNET_CONFIG', message: /policy script/ });
		await server.close();
	}
	await assert.rejects(h.serve(h.serverOptions({ policy: Buffer.from('return {') })),
		{ code: 'ERR_ALKNET_CONFIG', message: /\(policy\)/ });
	await assert.rejects(h.serve(h.serverOptions({ services: ['nonsense'] })),
		{ code: 'ERR_ALKNET_CONFIG', message: /there is no service nonsense/ });
});

test('listen: several, and one that is taken', { skip: !hasIpv6() && 'no IPv6 on loopback' }, async (t) => {
	const server = await h.serving(t, { listen: ['127.0.0.1:0', '[::1]:0'] }, h.echo);

	assert.strictEqual(server.listenAddrs.length, 2);
	assert.match(server.listenAddrs[1], /^\[::1\]:\d+$/);
	await works(t, server, h.clientOptions(server.listenAddrs[1]));
	await assert.rejects(h.serve(h.serverOptions({ listen: server.listenAddr })),
		{ code: 'ERR_ALKNET_CONFIG', message: /listen: .*in use/ });
});

test('acmeDomain and irohRelay are handed on', async () => {
	await assert.rejects(h.serve(h.serverOptions({ acmeDomain: 'example.test' })),
		{ code: 'ERR_ALKNET_CONFIG', message: /^acmeDomain: / });
	await assert.rejects(h.serve(h.serverOptions({ irohRelay: 'https://relay.test' })),
		{ code: 'ERR_ALKNET_CONFIG', message: /irohRelay/ });
});

test('options that are none', async () => {
	const client = h.clientOptions('127.0.0.1:1');

	for (const [options, says] of [
		[undefined, /must be an object/], [null, /must be an object/], ['x', /must be an object/],
		[[], /must be an object/], [{ ...client, servr: 'x' }, /servr: there is no such option/],
		[{ ...client, known_hosts: 'x' }, /did you mean knownHosts/],
		[{ ...client, server: 1 }, /server: must be a string/], [{ ...client, identity: {} }, /identity: must be a path or a Buffer/],
		[{ ...client, insecure: 'yes' }, /insecure: must be true or false/],
		[{ ...client, signal: {} }, /signal: must be an AbortSignal/],
		[{ ...client, reconnect: 1 }, /reconnect: must be true or false/],
		[{ ...client, peer: 'x' }, /peer: stands beside server/],
		[{ ...client, settings: 1 }, /settings: must be an object/],
		[{ ...client, settings: { a: {} } }, /settings.a/],
	])
		await assert.rejects(h.connect(options), { name: 'TypeError', code: 'ERR_ALKNET_CONFIG', message: says });
	for (const [options, says] of [
		[{ ...client, server: '' }, /server: is empty/], [{ ...client, server: 'a\0b' }, /server: there is a NUL/],
		[{ ...client, server: 'x:99999' }, /server/], [{ ...client, identity: Buffer.alloc(0) }, /identity: is empty/],
		[{ ...client, identity: Buffer.from('a\0b') }, /identity: there is a NUL/],
		[{ ...client, identity: Buffer.alloc(2 ** 20, 'x') }, /identity: is larger/],
		[{ ...client, identity: new URL('http://x/') }, /identity: is a URL/],
		[{ ...client, settings: { nonsense: 1 } }, /nonsense: there is no such option/],
		[{ ...client, settings: { socks5: '127.0.0.1:0' } }, /socks5: a client in a program/],
	])
		await assert.rejects(h.connect(options), { name: 'AlknetError', code: 'ERR_ALKNET_CONFIG', message: says });
	for (const [options, says] of [
		[undefined, /must be an object/], [{}, /host key/], [h.serverOptions({ hostKey: undefined }), /host key/],
		[h.serverOptions({ authorizedKeys: undefined }), /nobody could log in/],
		[h.serverOptions({ authorizedKeys: Buffer.from('nonsense') }), /nobody could log in.*\(authorized_keys\):1/],
		[h.serverOptions({ hostKey: [] }), /hostKey: is an empty list/],
		[h.serverOptions({ services: 'bus' }), /services: must be an array/],
		[h.serverOptions({ listen: 'x' }), /listen/], [h.serverOptions({ tlsCert: 'x' }), /^tlsCert: /],
		[h.serverOptions({ settings: { workers: 2 } }), /workers/],
		[h.serverOptions({ hostKey: Buffer.from('x') }), /\(key\)/],
	])
		await assert.rejects(h.serve(options), { code: 'ERR_ALKNET_CONFIG', message: says });
});
