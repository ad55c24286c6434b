// SPDX-License-Identifier: MIT OR Apache-2.0
'use strict';

// { default, rules } as a policy script. Nothing of what the program gives is code in it: all of it stands in
// strings of Lua, in which every byte that is not plain is written as a number.
const { badType, badValue } = require('./errors');

const words = ['allow', 'deny'];
const known = ['allow', 'deny', 'identity', 'via'];

function lua(text) {
	let out = '"';

	for (const byte of Buffer.from(text, 'utf8')) {
		const char = String.fromCharCode(byte);

		out += /[A-Za-z0-9 ._:/*?@[\]-]/.test(char) ? char : `\\${String(byte).padStart(3, '0')}`;
	}
	return out + '"';
}

// HOST, HOST:PORT, HOST:FROM-TO; HOST is a name with * and ?, an address, or a network.
function place(where, value) {
	const match = typeof value === 'string' &&
		/^(?:\[([^\]\s]+)\]|([^:\s[\]]+))(?::(\*|\d{1,5}(?:-\d{1,5})?))?$/.exec(value);

	if (!match)
		throw badValue(`${where}: must be HOST or HOST:PORT, as *.example.com:443, 10.0.0.0/8 or ` +
			`[2001:db8::/32]:22, not "${value}"`);
	const [from, to = from] = match[3] === undefined || match[3] === '*' ? [0, 65535]
		: match[3].split('-').map(Number);
	const host = match[1] ?? match[2];

	if (from > to || to > 65535)
		throw badValue(`${where}: there is no such port: ${match[3]}`);
	if (Buffer.byteLength(host) > 255)
		throw badValue(`${where}: the name has more than 255 bytes`);
	return { host, from, to };
}

function isNetwork(host) {
	return /^[0-9a-fA-F:.]+\/\d+$/.test(host) || /^[\d.]+$/.test(host) || host.includes(':');
}

function rule(one, i) {
	const where = `forwarding.rules[${i}]`;

	if (typeof one !== 'object' || one === null || Array.isArray(one))
		throw badType(`${where}: must be an object`);
	for (const name of Object.keys(one))
		if (!known.includes(name))
			throw badType(`${where}.${name}: there is no such key; there are ${known.join(', ')}`);
	const verdicts = words.filter((word) => one[word] !== undefined);

	if (verdicts.length !== 1)
		throw badType(`${where}: must have either allow or deny`);
	const verdict = verdicts[0];
	const { host, from, to } = place(`${where}.${verdict}`, one[verdict]);
	const out = [`verdict = ${lua(verdict)}`, `from = ${from}`, `to = ${to}`,
		isNetwork(host) ? `net = alknet.cidr(${lua(host)})` : `name = ${lua(host.toLowerCase())}`];

	for (const name of ['identity', 'via']) {
		if (one[name] === undefined)
			continue;
		if (typeof one[name] !== 'string' || one[name] === '')
			throw badType(`${where}.${name}: must be a string`);
		out.push(`${name} = ${lua(one[name])}`);
	}
	return `\t{ ${out.join(', ')} },\n`;
}

const script = `
local services = { ["alknet-control"] = "bus", ["alknet-secret"] = "secret", ["alknet-status"] = "status" }

local function matches(rule, session, destination)
	if destination.port < rule.from or destination.port > rule.to then
		return false
	end
	if rule.identity and not alknet.glob(rule.identity, session.identity.id) then
		return false
	end
	if rule.net then
		return rule.net:contains(destination.host)
	end
	return alknet.glob(rule.name, destination.host:lower())
end

local policy = {}

function policy.on_open(session, destination)
	if destination.reserved then
		local service = services[destination.host]
		if service and loaded[service] then
			return "service", service
		end
		return "service", "program"
	end
	if destination.path then
		return "deny", "unix sockets are not forwarded"
	end
	for _, rule in ipairs(rules) do
		if matches(rule, session, destination) then
			if rule.verdict == "deny" then
				return "deny", "a rule"
			end
			return "forward", { via = rule.via }
		end
	end
	if default == "allow" then
		return "forward"
	end
	return "deny", "no rule"
end

function policy.on_listen(_, bind)
	if default == "allow" and (bind.loopback or bind.gateway_ports) then
		return "allow"
	end
	return "deny", "not allowed"
end

return policy
`;

function forwardingPolicy(forwarding, services) {
	if (typeof forwarding !== 'object' || forwarding === null || Array.isArray(forwarding))
		throw badType('forwarding: must be an object with default and rules');
	const { default: fallback = 'allow', rules = [], ...rest } = forwarding;

	for (const name of Object.keys(rest))
		throw badType(`forwarding.${name}: there is no such key; there are default, rules`);
	if (!words.includes(fallback))
		throw badValue(`forwarding.default: must be "allow" or "deny", not "${fallback}"`);
	if (!Array.isArray(rules))
		throw badType('forwarding.rules: must be an array');
	if (rules.length > 10000)
		throw badValue('forwarding.rules: has more than 10000 rules');
	const loaded = services.map((name) => `[${lua(name)}] = true`).join(', ');

	return `local default = ${lua(fallback)}\nlocal loaded = { ${loaded} }\n` +
		`local rules = {\n${rules.map(rule).join('')}}\n${script}`;
}

module.exports = { forwardingPolicy };
