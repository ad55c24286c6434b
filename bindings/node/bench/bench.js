// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// alknet-napi before `alknet serve`, alknet-napi before sshd, and npm's ssh2 before the same sshd, in the same run:
//
//     cd bench && npm install && node bench.js [--rounds N] [--mib N]
//
// `alknet` is that of ../../../build, or ALKNET. Each measurement is a process of its own, taken in turns; the table has
// medians, and how they are to ssh2's.
const { execFileSync, spawn } = require('child_process');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');
const { once } = require('events');

const arg = (name, value) => {
	const i = process.argv.indexOf(`--${name}`);

	return i < 0 ? value : Number(process.argv[i + 1]);
};
const rounds = arg('rounds', 5);
const mib = arg('mib', 256);
const now = () => Number(process.hrtime.bigint()) / 1e6;
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

// ---- the two clients: connect() gives { open(port), end() } ----

function alknetClient(k, port) {
	const { connect } = require('..');
	let first;

	return {
		async open(target) {
			first = await connect({ server: `127.0.0.1:${port}`, identity: k.user, user: k.name,
				hostKeyFingerprint: k.fingerprint, destination: `127.0.0.1:${target}` });
			return first;
		},
		end: () => first.session.close(),
	};
}

const clients = {
	alknet: async (k) => alknetClient(k, k.alknet),
	'alknet-sshd': async (k) => alknetClient(k, k.sshd),
	async ssh2(k) {
		const { Client } = require('ssh2');
		const client = new Client();

		return {
			async open(port) {
				const crypto = require('crypto');

				client.connect({
					host: '127.0.0.1', port: k.sshd, username: k.name, privateKey: fs.readFileSync(k.user),
					hostVerifier: (key) => `SHA256:${crypto.createHash('sha256').update(key).digest('base64')
						.replace(/=+$/, '')}` === k.fingerprint,
					// What alknet-napi begins with. It would begin with aes128-gcm.
					algorithms: { cipher: ['aes256-gcm@openssh.com'] },
				});
				await once(client, 'ready');
				// It sends a packet in three writes, which Nagle's algorithm makes 40 ms of.
				client.setNoDelay(true);
				return new Promise((resolve, reject) => client.forwardOut('127.0.0.1', 1, '127.0.0.1', port,
					(error, stream) => error ? reject(error) : resolve(stream)));
			},
			end: () => new Promise((resolve) => client.on('close', resolve).end()),
		};
	},
};

// ---- what is measured; each gives { name: number } ----

const work = {
	async connect(client, k) {
		const begun = now();
		const stream = await client.open(k.echo);
		const took = now() - begun;

		stream.destroy();
		return { connect_ms: took };
	},
	async latency(client, k) {
		const stream = await client.open(k.echo);
		const bytes = Buffer.alloc(64, 1);
		const times = [];

		await new Promise((resolve) => {
			let begun;
			let got = 0;
			const next = () => {
				begun = now();
				stream.write(bytes, () => {});
			};

			stream.on('data', (part) => {
				got += part.length;
				if (got < 64)
					return;
				got = 0;
				times.push(now() - begun);
				if (times.length === 3000)
					resolve();
				else
					next();
			});
			next();
		});
		stream.destroy();
		return { p50_us: median(times.slice(500)) * 1000 };
	},
	async download(client, k) {
		const stream = await client.open(k.source);
		let got = 0;
		let begun;

		for await (const part of stream) {
			begun ??= now();
			got += part.length;
		}
		return { down_mib_s: got / 2 ** 20 / ((now() - begun) / 1000), down_rss_mib: peak() };
	},
	async upload(client, k) {
		const stream = await client.open(k.sink);
		const chunk = Buffer.alloc(65536, 1);
		const total = mib * 2 ** 20;
		const begun = now();

		for (let left = total; left > 0; left -= chunk.length)
			if (!stream.write(chunk, () => {}))
				await once(stream, 'drain');
		stream.end();
		stream.resume();
		await once(stream, 'end');
		return { up_mib_s: mib / ((now() - begun) / 1000), up_rss_mib: peak() };
	},
};

function peak() {
	return Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
}

async function child(which, what, k) {
	const client = await clients[which](k);
	const result = await work[what](client, k);

	console.log(JSON.stringify({ rss_mib: peak(), ...result }));
	process.exit();
}

async function main() {
	const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'alknet-bench-'));
	const at = (name) => path.join(dir, name);

	for (const name of ['host', 'user'])
		execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(name)]);
	const free = () => new Promise((resolve) => {
		const probe = net.createServer().listen(0, '127.0.0.1', () => {
			const { port } = probe.address();

			probe.close(() => resolve(port));
		});
	});
	const [sshdPort, alknetPort] = [await free(), await free()];

	fs.writeFileSync(at('config'), `ListenAddress 127.0.0.1:${sshdPort}\nHostKey ${at('host')}\nAuthorizedKeysFile ${at('user.pub')}\n` +
		'PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nMaxStartups 100\n');
	if (process.getuid() === 0)
		fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
	const sshd = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', at('config')], { stdio: ['ignore', 'ignore', 'pipe'] });

	await once(sshd.stderr, 'data');
	const build = path.join(__dirname, '..', '..', '..', 'build');
	const alknet = spawn(process.env.ALKNET ?? path.join(build, 'alknet'), ['serve', '--key', at('host'), '--authorized-keys',
		at('user.pub'), '--listen', `127.0.0.1:${alknetPort}`, '--admin-socket', 'none'], {
		env: { ...process.env, ALKNET_PLUGIN_DIR: process.env.ALKNET_PLUGIN_DIR ?? path.join(build, 'plugins', '.libs') },
		stdio: ['ignore', 'ignore', 'pipe'],
	});

	for (let said = ''; !said.includes('listening');)
		said += (await once(alknet.stderr, 'data'))[0];
	alknet.stderr.resume();
	// The targets have a process of their own, so that they are no part of what is measured.
	const others = spawn('python3', [path.join(__dirname, 'targets.py'), String(mib)], { stdio: ['pipe', 'pipe', 'inherit'] });
	const [ports] = await once(others.stdout, 'data');
	const [echo, source, sink] = JSON.parse(ports);
	const k = {
		sshd: sshdPort, alknet: alknetPort, user: at('user'), name: os.userInfo().username, echo, source, sink,
		fingerprint: execFileSync('ssh-keygen', ['-lf', at('host.pub')], { encoding: 'utf8' }).split(' ')[1],
	};
	const names = Object.keys(clients);
	const results = Object.fromEntries(names.map((name) => [name, {}]));

	process.on('exit', () => {
		sshd.kill();
		alknet.kill();
		others.kill();
		fs.rmSync(dir, { recursive: true });
	});
	for (let round = 0; round < rounds; round++)
		for (const what of Object.keys(work))
			for (const which of round % 2 ? [...names].reverse() : names) {
				const text = execFileSync(process.execPath, [__filename, '--child', which, what, JSON.stringify(k),
					'--mib', String(mib)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

				for (const [name, value] of Object.entries(JSON.parse(text)))
					if (name !== 'rss_mib')
						(results[which][name] ??= []).push(value);
			}
	console.log(`node ${process.version}, ${rounds} rounds, ${mib} MiB, medians`);
	console.log(`${''.padEnd(14)} ${names.map((name) => name.padStart(12)).join('        ')}`);
	for (const what of Object.keys(results.ssh2)) {
		const values = names.map((name) => median(results[name][what]));
		const base = values[names.indexOf('ssh2')];

		console.log(`${what.padEnd(14)} ${values.map((value) => `${value.toFixed(1).padStart(12)} (${(value / base).toFixed(2)})`).join(' ')}`);
	}
	process.exit();
}

if (process.argv.includes('--child')) {
	const [which, what, k] = process.argv.slice(process.argv.indexOf('--child') + 1);

	child(which, what, JSON.parse(k));
} else {
	main();
}
