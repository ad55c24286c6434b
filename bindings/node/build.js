#!/usr/bin/env node
// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// Compiles the addon, with a C compiler and nothing else:
//
//     node build.js               build/Release/alknet-napi.node
//     node build.js --if-needed   the same, unless a prebuilt one loads (npm install)
//     node build.js --prebuild    prebuilds/linux-x64/: the addon, libalknet and its plugins
//     node build.js --headers     prints where node_api.h is
//
// libalknet is the one of this checkout (../../build, or ALKNET_BUILD), else the installed one (pkg-config alknet).
// The headers of Node-API are the npm package node-api-headers's, or those in NODE_API_INCLUDE or beside node.
// CC, CFLAGS and LDFLAGS are what they always are.
const { execFileSync } = require('child_process');
const fs = require('fs');
const path = require('path');

const top = __dirname;
// Where npm has copied this from (--install-links, which npm 9 does unasked), if it says so.
const origin = /^file:(.*)/.exec(process.env.npm_package_resolved ?? '')?.[1];
const trees = [top, ...(origin ? [path.resolve(process.env.INIT_CWD ?? '', origin)] : [])]
	.map((place) => path.join(place, '..', '..'));
const words = (text) => (text ?? '').split(/\s+/).filter((word) => word !== '');
const has = (...file) => fs.existsSync(path.join(...file));

function fail(text) {
	console.error(`alknet-napi: ${text}`);
	process.exit(1);
}

function headers() {
	const places = [process.env.NODE_API_INCLUDE];

	try {
		places.push(require('node-api-headers').include_dir);
	} catch {
		// It is not installed.
	}
	places.push(path.join(process.execPath, '..', '..', 'include', 'node'), '/usr/include/node',
		'/usr/include/nodejs/src');
	const found = places.find((place) => place !== undefined && has(place, 'node_api.h'));

	return found ?? fail('node_api.h is not found: run npm install, which brings node-api-headers, ' +
		'or set NODE_API_INCLUDE');
}

function pkgConfig(what) {
	try {
		return words(execFileSync(process.env.PKG_CONFIG ?? 'pkg-config', [...what, 'alknet'],
			{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
	} catch {
		return null;
	}
}

// The tree that `build` is of.
function sourceOf(build) {
	let found = null;

	try {
		found = /^abs_top_srcdir = (.*)$/m.exec(fs.readFileSync(path.join(build, 'Makefile'), 'utf8'));
	} catch {
		// It has no Makefile.
	}
	return found === null ? path.join(top, '..', '..') : found[1];
}

// { cflags, libs, dir of the library, plugins }
function library() {
	const build = process.env.ALKNET_BUILD ??
		trees.flatMap((tree) => [path.join(tree, 'build'), path.join(tree, 'build', 'check')])
			.find((place) => has(place, '.libs', 'libalknet.so'));

	if (build !== undefined && build !== '' && has(build, '.libs', 'libalknet.so')) {
		return {
			cflags: [`-I${path.join(sourceOf(build), 'include')}`],
			libs: [`-L${path.resolve(build, '.libs')}`, '-lalknet'],
			dir: path.resolve(build, '.libs'),
			plugins: path.resolve(build, 'plugins', '.libs'),
		};
	}
	const cflags = pkgConfig(['--cflags']);

	if (cflags === null)
		fail('libalknet is not found: build it (./quickstart in the checkout), install it, or set ' +
			'ALKNET_BUILD to the directory of a build');
	return { cflags, libs: pkgConfig(['--libs']), dir: pkgConfig(['--variable=libdir'])[0] };
}

function compile(out, rpath, lib) {
	const sources = fs.readdirSync(path.join(top, 'src')).filter((name) => name.endsWith('.c'))
		.map((name) => path.join(top, 'src', name));
	const [cc, ...more] = words(process.env.CC ?? 'cc');

	fs.mkdirSync(path.dirname(out), { recursive: true });
	try {
		execFileSync(cc, [...more, '-std=gnu11', '-shared', '-fPIC', '-pthread', '-fvisibility=hidden',
			'-Wall', '-Wextra', '-D_GNU_SOURCE', ...words(process.env.CFLAGS ?? '-O2'),
			`-I${headers()}`, ...lib.cflags, ...sources, '-o', out, ...lib.libs,
			`-Wl,-rpath,${rpath}`, '-Wl,-z,relro,-z,now', ...words(process.env.LDFLAGS)],
		{ stdio: 'inherit' });
	} catch {
		fail('the compiler failed; its words are above');
	}
	console.log(`alknet-napi: ${path.relative(process.cwd(), out)}`);
}

function buildHere() {
	const lib = library();
	const dir = process.env.ALKNET_NAPI_OUT ?? path.join(top, 'build', 'Release');

	compile(path.join(dir, 'alknet-napi.node'), lib.dir, lib);
	if (lib.plugins !== undefined)
		fs.writeFileSync(path.join(dir, 'plugin_dir'), lib.plugins + '\n');
	else
		fs.rmSync(path.join(dir, 'plugin_dir'), { force: true });
}

function prebuild() {
	const lib = library();
	const dir = process.env.ALKNET_NAPI_OUT ??
		path.join(top, 'prebuilds', `${process.platform}-${process.arch}`);
	const plugins = lib.plugins ?? path.join(lib.dir, 'alknet');

	fs.rmSync(dir, { recursive: true, force: true });
	compile(path.join(dir, 'alknet-napi.glibc.node'), '$ORIGIN', lib);
	fs.copyFileSync(path.join(lib.dir, 'libalknet.so.0'), path.join(dir, 'libalknet.so.0'));
	// The loader refuses what others may write.
	fs.mkdirSync(path.join(dir, 'plugins'), { mode: 0o755 });
	for (const name of fs.readdirSync(plugins).filter((file) => file.endsWith('.so')))
		fs.copyFileSync(path.join(plugins, name), path.join(dir, 'plugins', name));
}

function prebuiltLoads() {
	if (!has(top, 'prebuilds') || has(top, 'build', 'Release', 'alknet-napi.node'))
		return false;
	try {
		execFileSync(process.execPath, ['-e', 'require(process.argv[1])', top], { stdio: 'ignore' });
		return true;
	} catch {
		return false;
	}
}

if (process.argv.includes('--headers'))
	console.log(headers());
else if (process.argv.includes('--prebuild'))
	prebuild();
else if (!process.argv.includes('--if-needed') || !prebuiltLoads())
	buildHere();
