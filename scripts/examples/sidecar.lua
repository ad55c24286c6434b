-- SPDX-License-Identifier: MIT OR Apache-2.0
-- A sidecar that pins its upstreams: the application opens short names, this table says what they are, and
-- nothing else can be reached. Its own listener is offered to the peers on one port.

local upstreams = {
	-- by address: no name server can lead it astray
	db = { host = "192.0.2.10", port = 5432 },
	-- by name, judged: it must stand for addresses of this network alone
	queue = { name = "queue.internal.example", port = 5672, net = alknet.cidr("192.0.2.0/24") },
	-- a socket beside it
	metrics = { path = "/run/metrics.sock" },
}

local policy = {}

-- One client: the application on the same machine.
function policy.on_link(link)
	if link.remote_addr == "127.0.0.1" or link.remote_addr == "::1" then
		return "allow"
	end
	return "deny", "not from this machine"
end

local function judged(upstream)
	local addresses, why = alknet.resolve(upstream.name)
	if not addresses then
		return nil, why
	end
	for _, address in ipairs(addresses) do
		if not upstream.net:contains(address) then
			return nil, "the upstream is not where it should be"
		end
	end
	return addresses[1]
end

function policy.on_open(_, destination)
	local upstream = upstreams[destination.host]
	if not upstream or destination.path then
		return "deny", "no such upstream"
	end
	if upstream.path then
		return "forward", { path = upstream.path }
	end
	local host, why = upstream.host, nil
	if not host then
		host, why = judged(upstream)
	end
	if not host then
		alknet.log("warn", why)
		return "deny", why
	end
	return "forward", { host = host, port = upstream.port }
end

function policy.on_listen(_, bind)
	if bind.port == 8080 then
		return "allow", { host = "127.0.0.1" }
	end
	return "deny", "port 8080 alone"
end

return policy
