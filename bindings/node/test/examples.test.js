// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// What README.md shows runs, and the package is built and found as npm does it.
const assert = require('assert');
const { execFileSync, spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const test = require('node:test');
const h = require('./harness');

const example = (name) => path.join(h.top, 'examples', name);
const has = (program) => spawnSync(program, ['--version']).error === undefined;

test('examples/echo.js', async (t) => {
	const k = h.keys();
	const run = h.program(t, process.execPath, [example('echo.js'), k.at('host'), k.at('user'), k.at('authorized')]);

	assert.deepStrictEqual(await run.ended, [0, null]);
	assert.deepStrictEqual(run.lines, ['me asks for alknet-echo:1', 'hello']);
});

test('examples/bus.js', async (t) => {
	const k = h.keys();
	const server = await h.serving(t, { services: ['bus'] });
	const state = k.at('state');
	const options = { env: { ...process.env, XDG_STATE_HOME: state } };
	const [host, port] = server.listenAddr.split(':');

	fs.mkdirSync(path.join(state, 'alknet'), { recursive: true, mode: 0o700 });
	fs.writeFileSync(path.join(state, 'alknet', 'known_hosts'), `[${host}]:${port} ${k.read('host.pub')}`);
	const listening = h.program(t, process.execPath, [example('bus.js'), server.listenAddr, k.at('user'), 'demo.>'], options);
	const heard = listening.line(/^demo.hello/);
	let told = false;

	heard.then(() => { told = true; });
	// Until it has subscribed nobody hears what is published.
	while (!told) {
		const said = h.program(t, process.execPath,
			[example('bus.js'), server.listenAddr, k.at('user'), 'demo.hello', '{"n":1}'], options);

		assert.deepStrictEqual(await said.ended, [0, null], said.lines.join('\n'));
	}
	assert.strictEqual((await heard).input, 'demo.hello {"n":1}');
});

test('examples/bus.js has twenty lines', () => {
	const lines = fs.readFileSync(example('bus.js'), 'utf8').split('\n')
		.filter((line) => line.trim() !== '' && !line.startsWith('//'));

	assert.ok(lines.length <= 20);
});

test('a prebuilt addon stands alone', async (t) => {
	const dir = h.keys().at('prebuilt');
	const library = process.env.ALKNET_BUILD ?? process.env.ALKNET_BUILDDIR;

	execFileSync(process.execPath, [path.join(h.top, 'build.js'), '--prebuild'], { stdio: 'ignore',
		env: { ...process.env, ALKNET_NAPI_OUT: dir, ...(library ? { ALKNET_BUILD: library } : {}), LD_PRELOAD: '' } });
	assert.ok(fs.existsSync(path.join(dir, 'libalknet.so.0')));
	const run = h.program(t, process.execPath, [example('echo.js'), ...['host', 'user', 'authorized'].map(h.keys().at)], {
		env: { ...process.env, ALKNET_NAPI: path.join(dir, 'alknet-napi.glibc.node'), ALKNET_PLUGIN_DIR: '' },
	});

	assert.deepStrictEqual(await run.ended, [0, null], run.lines.join('\n'));
});

test('npm install builds it from a checkout', {
	skip: (process.env.ALKNET_SANITIZERS === 'yes' && 'sanitizers are on') || (!has('npm') && 'npm is not installed') ||
		(process.env.ALKNET_NODE_NPM === undefined && 'ALKNET_NODE_NPM=1 asks the registry'),
}, () => {
	const dir = h.keys().at('project');
	const copy = h.keys().at('checkout');
	const library = process.env.ALKNET_BUILD ?? process.env.ALKNET_BUILDDIR ?? path.join(h.top, '..', '..', 'build');

	fs.mkdirSync(dir);
	fs.cpSync(h.top, copy, { recursive: true, filter: (name) => !/\/(build|node_modules|prebuilds)$/.test(name) });
	fs.writeFileSync(path.join(dir, 'package.json'), '{ "private": true }');
	execFileSync('npm', ['install', '--no-audit', '--no-fund', '--install-links', copy], { cwd: dir, stdio: 'ignore',
		env: { ...process.env, ALKNET_BUILD: library, NODE_API_INCLUDE: '' } });
	const text = execFileSync(process.execPath, ['-p', 'Object.keys(require("alknet-napi")).join()'],
		{ cwd: dir, encoding: 'utf8', env: { ...process.env, ALKNET_NAPI: '' } });

	assert.match(text, /^connect,serve,createEventTarget/);
});
