// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// alknet-napi and npm's ssh2 beside each other, both through the same sshd, in the same run:
//
//     cd bench && npm install && node bench.js [--rounds N] [--mib N]
//
// Each measurement is a process of its own, taken in turns; the table has medians.
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

const clients = {
	async alknet(k) {
		const { connect } = require('..');
		let first;

		return {
			async open(port) {
				first = await connect({ server: `127.0.0.1:${k.sshd}`, identity: k.user, user: k.name,
					hostKeyFingerprint: k.fingerprint, destination: `127.0.0.1:${port}` });
				return first;
			},
			end: () => first.session.close(),
		};
	},
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

// ---- the other ends ----

async function listen(onSocket) {
	const listener = net.createServer({ allowHalfOpen: true, noDelay: true }, onSocket).listen(0, '127.0.0.1');

	await once(listener, 'listening');
	return listener.address().port;
}

function targets() {
	const total = mib * 2 ** 20;

	return Promise.all([
		listen((socket) => socket.on('error', () => {}).pipe(socket)),
		listen((socket) => {
			const chunk = Buffer.alloc(262144, 2);
			let left = total;

			socket.on('error', () => {});
			const more = () => {
				while (left > 0) {
					left -= chunk.length;
					if (!socket.write(chunk))
						return;
				}
				socket.end();
			};

			socket.on('drain', more);
			socket.resume();
			more();
		}),
		listen((socket) => socket.on('error', () => {}).on('end', () => socket.end()).resume()),
	]);
}

async function main() {
	const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'alknet-bench-'));
	const at = (name) => path.join(dir, name);

	for (const name of ['host', 'user'])
		execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(name)]);
	const sshdPort = await new Promise((resolve) => {
		const probe = net.createServer().listen(0, '127.0.0.1', () => {
			const free = probe.address().port;

			probe.close(() => resolve(free));
		});
	});

	fs.writeFileSync(at('config'), `ListenAddress 127.0.0.1:${sshdPort}\nHostKey ${at('host')}\nAuthorizedKeysFile ${at('user.pub')}\n` +
		'PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nMaxStartups 100\n');
	if (process.getuid() === 0)
		fs.mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
	const sshd = spawn('/usr/sbin/sshd', ['-D', '-e', '-f', at('config')], { stdio: ['ignore', 'ignore', 'pipe'] });

	await once(sshd.stderr, 'data');
	// The targets have a process of their own, so that they are no part of what is measured.
	const others = spawn(process.execPath, [__filename, '--targets', '--mib', String(mib)], { stdio: ['pipe', 'pipe', 'inherit'] });
	const [ports] = await once(others.stdout, 'data');
	const [echo, source, sink] = JSON.parse(ports);
	const k = {
		sshd: sshdPort, user: at('user'), name: os.userInfo().username, echo, source, sink,
		fingerprint: execFileSync('ssh-keygen', ['-lf', at('host.pub')], { encoding: 'utf8' }).split(' ')[1],
	};
	const results = { alknet: {}, ssh2: {} };

	process.on('exit', () => {
		sshd.kill();
		others.kill();
		fs.rmSync(dir, { recursive: true });
	});
	for (let round = 0; round < rounds; round++)
		for (const what of Object.keys(work))
			for (const which of round % 2 ? ['ssh2', 'alknet'] : ['alknet', 'ssh2']) {
				const text = execFileSync(process.execPath, [__filename, '--child', which, what, JSON.stringify(k),
					'--mib', String(mib)], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

				for (const [name, value] of Object.entries(JSON.parse(text)))
					if (name !== 'rss_mib')
						(results[which][name] ??= []).push(value);
			}
	console.log(`node ${process.version}, ${rounds} rounds, ${mib} MiB, medians`);
	for (const name of Object.keys(results.alknet)) {
		const [a, b] = [median(results.alknet[name]), median(results.ssh2[name])];

		console.log(`${name.padEnd(14)} alknet-napi ${a.toFixed(1).padStart(9)}   ssh2 ${b.toFixed(1).padStart(9)}   ratio ${(a / b).toFixed(2)}`);
	}
	process.exit();
}

if (process.argv.includes('--child')) {
	const [which, what, k] = process.argv.slice(process.argv.indexOf('--child') + 1);

	child(which, what, JSON.parse(k));
} else if (process.argv.includes('--targets')) {
	targets().then((ports) => console.log(JSON.stringify(ports)));
} else {
	main();
}
