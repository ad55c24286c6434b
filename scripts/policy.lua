-- SPDX-License-Identifier: MIT OR Apache-2.0
-- What a plain server does. It is what alknet does without a policy: a place to begin.
-- docs/POLICY_API.md describes each function; `alknet check` runs policy_test.lua.

local services = {
	["alknet-control"] = "bus",
	["alknet-secret"] = "secret",
	["alknet-status"] = "status",
}

local policy = {}

-- A link was accepted; nothing is known of the peer but its address.
function policy.on_link(_)
	return "allow"
end

-- A key was proved. "pass": the authorized keys decide.
function policy.on_auth(_)
	return "pass"
end

-- A channel is asked for.
function policy.on_open(_, destination)
	if destination.path then
		return "deny", "a unix socket is opened by a policy alone"
	end
	if not destination.reserved then
		return "forward"
	end
	local service = services[destination.host]
	if service then
		return "service", service
	end
	return "deny", "no such service"
end

-- A remote forward is asked for: the server would listen for the peer. bind.gateway_ports is the option
-- of that name: may it be on other than loopback addresses?
function policy.on_listen(_, bind)
	if bind.loopback or bind.gateway_ports then
		return "allow"
	end
	return "deny", "only loopback addresses are listened on"
end

return policy
