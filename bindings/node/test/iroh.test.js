// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// The transport iroh: a server in this process, its peer in another. No relay, no discovery: the address is told.
const assert = require('assert');
const fs = require('fs');
const path = require('path');
const test = require('node:test');
const h = require('./harness');
const { pluginDir } = require('../lib/native');

const plugins = process.env.ALKNET_PLUGIN_DIR ?? pluginDir;
const skip = process.env.ALKNET_SANITIZERS === 'yes' ? 'sanitizers are on'
	: !(plugins !== undefined && fs.existsSync(path.join(plugins, 'iroh.so'))) && 'iroh is not built';

// The address is a word of the log, which is the process's stderr.
const serving = `
	const h = require(process.env.TOP + '/test/harness');
	(async () => {
		const server = await h.serve({ ...JSON.parse(process.env.OPTIONS) });
		server.onConnection(({ stream, info }) => {
			console.log('INFO', JSON.stringify(info));
			h.echo({ stream });
		});
		process.on('SIGTERM', async () => {
			await server.close();
			console.log('CLOSED');
		});
		console.log('ENDPOINT', server.endpointId, server.listenAddr);
	})();`;

function irohServer(t, name) {
	return h.script(t, serving, { env: { OPTIONS: JSON.stringify(h.serverOptions({
		transport: 'iroh', irohRelay: 'none',
		settings: { iroh_key: h.keys().at(name), iroh_discovery: 'none', log_level: 'info' },
	})) } });
}

async function started(run) {
	const [, endpointId, listenAddr] = await run.line(/^ENDPOINT (\S+) (.*)$/);
	const [, address] = await run.line(/msg="?iroh endpoint"? .*udp="?(127\.0\.0\.1:\d+)/);

	return { endpointId, listenAddr, address };
}

const clientOptions = ({ endpointId, address }, more = {}) => ({
	peer: endpointId, transport: 'iroh', irohRelay: 'none', identity: h.keys().at('user'), user: 'tester',
	hostKeyFingerprint: h.keys().fingerprint, timeout: '30s',
	settings: { peer_address: address, iroh_discovery: 'none' }, ...more,
});

test('transport iroh: a peer is known by its endpointId alone', { skip }, async (t) => {
	const run = irohServer(t, 'iroh_key');
	const server = await started(run);

	assert.match(server.endpointId, /^[a-z0-9]{52}$/);
	const stream = await h.connect(clientOptions(server, { destination: 'alknet-echo:1' }));

	t.after(() => stream.session.close());
	assert.strictEqual(stream.info.transportKind, 'iroh');
	assert.strictEqual(stream.info.endpointId, server.endpointId);
	const total = 4 * 2 ** 20;
	const back = h.readAll(stream);

	for (const part of h.bytes(total))
		await stream.write(part);
	stream.end();
	const hash = require('crypto').createHash('sha256').update(await back).digest('hex');

	assert.strictEqual(hash, h.digest(total));
	const [, text] = await run.line(/^INFO (.*)$/);
	const info = JSON.parse(text);

	assert.strictEqual(info.transportKind, 'iroh');
	assert.match(info.endpointId, /^[a-z0-9]{52}$/);
	assert.notStrictEqual(info.endpointId, server.endpointId);
	assert.strictEqual(info.identity.user, 'tester');
});

test('transport iroh: the id stays with iroh_key, close ends the process, another id is not reached', { skip }, async (t) => {
	const first = irohServer(t, 'iroh_kept');
	const { endpointId } = await started(first);

	first.child.kill('SIGTERM');
	assert.deepStrictEqual(await first.ended, [0, null], first.lines.join('\n'));
	const again = await started(irohServer(t, 'iroh_kept'));
	const other = await started(irohServer(t, 'iroh_other'));

	assert.strictEqual(again.endpointId, endpointId);
	assert.notStrictEqual(other.endpointId, endpointId);
	// Who listens at the address is not whom we asked for.
	await assert.rejects(h.connect(clientOptions({ endpointId: other.endpointId, address: again.address }, { timeout: '5s' })),
		(error) => ['ERR_ALKNET_CONNECT', 'ERR_ALKNET_TIMEOUT'].includes(error.code));
});

test('transport iroh: a peer that is no id', { skip }, async () => {
	await assert.rejects(h.connect(clientOptions({ endpointId: 'nonsense', address: '127.0.0.1:9' })),
		{ name: /Error/, message: /nonsense|endpoint|id/ });
});
