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

// npm in a project of its own, with the package copied into it; then a stream through what it built.
async function npmInstalls(t, name, env, plugins) {
	const dir = h.keys().at(name);
	const copy = path.join(dir, 'checkout', 'bindings', 'node');
	const project = path.join(dir, 'project');
	const { ALKNET_BUILD: _, ...clean } = process.env;

	fs.mkdirSync(project, { recursive: true });
	fs.cpSync(h.top, copy, { recursive: true, filter: (file) => !/\/(build|node_modules|prebuilds|package-lock\.json)$/.test(file) });
	if (env.ALKNET_BUILD === undefined && env.PKG_CONFIG_PATH === undefined)
		fs.symlinkSync(built, path.join(dir, 'checkout', 'build'));
	execFileSync('chmod', ['-R', 'u+w', copy]); // `make distcheck` has a tree that is read alone
	fs.writeFileSync(path.join(project, 'package.json'), '{ "private": true }');
	const npm = spawnSync('npm', ['install', '--no-audit', '--no-fund', '--install-links', '--foreground-scripts', '../checkout/bindings/node'], {
		cwd: project, encoding: 'utf8', env: { ...clean, NODE_API_INCLUDE: '', ALKNET_NAPI: '', ...env } });

	assert.strictEqual(npm.status, 0, npm.stdout + npm.stderr);
	const installed = path.join(project, 'node_modules', 'alknet-napi');

	assert.ok(!fs.lstatSync(installed).isSymbolicLink());
	fs.copyFileSync(example('echo.js'), path.join(project, 'echo.js'));
	const run = h.program(t, process.execPath, [path.join(project, 'echo.js'), ...['host', 'user', 'authorized'].map(h.keys().at)], {
		cwd: project, env: { ...process.env, ALKNET_NAPI: '', ALKNET_PLUGIN_DIR: plugins } });

	assert.deepStrictEqual(await run.ended, [0, null], run.lines.join('\n'));
	assert.deepStrictEqual(run.lines, ['me asks for alknet-echo:1', 'hello']);
}

const built = path.resolve(process.env.ALKNET_BUILD || process.env.ALKNET_BUILDDIR || path.join(h.top, '..', '..', 'build'));
// The headers of Node-API are npm's; without a registry that has them there is nothing to test.
const npmSkip = (process.env.ALKNET_SANITIZERS === 'yes' && 'sanitizers are on') || (!has('npm') && 'npm is not installed') ||
	(spawnSync('npm', ['view', 'node-api-headers', 'version', '--fetch-retries=0']).status !== 0 && 'npm reaches no registry');

test('npm install builds it against a build', { skip: npmSkip }, (t) => npmInstalls(t, 'npm-built', { ALKNET_BUILD: built }, ''));

test('npm install builds it against the build of the checkout that it copies', { skip: npmSkip }, (t) => npmInstalls(t, 'npm-checkout', {}, ''));

test('npm install builds it against an installed library', {
	skip: npmSkip || (!has('pkg-config') && 'pkg-config is not installed'),
}, (t) => {
	const prefix = h.keys().at('prefix');
	const lib = path.join(prefix, 'lib');
	const copy = (from, to, wanted) => {
		fs.mkdirSync(to, { recursive: true, mode: 0o755 });
		for (const name of fs.readdirSync(from).filter((file) => wanted.test(file)))
			fs.copyFileSync(path.join(from, name), path.join(to, name));
	};

	copy(path.join(built, '.libs'), lib, /^libalknet\.so/);
	copy(path.join(built, 'plugins', '.libs'), path.join(lib, 'alknet'), /\.so$/);
	copy(path.join(h.top, '..', '..', 'include', 'alknet'), path.join(prefix, 'include', 'alknet'), /\.h$/);
	fs.mkdirSync(path.join(lib, 'pkgconfig'));
	fs.writeFileSync(path.join(lib, 'pkgconfig', 'alknet.pc'), fs.readFileSync(path.join(built, 'alknet.pc'), 'utf8')
		.replace(/^prefix=.*$/m, `prefix=${prefix}`));
	return npmInstalls(t, 'npm-installed', { PKG_CONFIG_PATH: path.join(lib, 'pkgconfig') }, path.join(lib, 'alknet'));
});
