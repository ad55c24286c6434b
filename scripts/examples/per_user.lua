-- SPDX-License-Identifier: MIT OR Apache-2.0
-- Who may go where: a list for each identity. What is on no list is denied.

-- Which identity a key has. The user name that a peer gives proves nothing.
local people = {
	["SHA256:uNiVztksCsDhcc0u9e8BxrQXVUpKZIDTMczCvj3tD2s"] = { id = "alice", scopes = { "operator" } },
	["SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE"] = { id = "bob" },
}

-- Patterns of hosts, and the ports on them.
local lists = {
	alice = {
		{ host = "*.example.com", ports = { 22, 80, 443 } },
		{ host = "db.internal", ports = { 5432 } },
	},
	bob = {
		{ host = "www.example.com", ports = { 80, 443 } },
	},
}

local policy = {}

-- A certificate says who somebody is by its first principal; a key by the table.
function policy.on_auth(request)
	local certificate = request.certificate
	if certificate then
		local name = certificate.principals[1]
		if name and lists[name] then
			return "allow", { id = name }
		end
		return "deny", "no list for this principal"
	end
	local identity = people[request.key_fingerprint]
	if identity then
		return "allow", identity
	end
	return "pass"
end

local function has(list, value)
	for _, one in ipairs(list) do
		if one == value then
			return true
		end
	end
	return false
end

function policy.on_open(session, destination)
	if destination.reserved or destination.path then
		return "deny", "no services and no sockets"
	end
	for _, rule in ipairs(lists[session.identity.id] or {}) do
		if alknet.glob(rule.host, destination.host) and has(rule.ports, destination.port) then
			return "forward"
		end
	end
	return "deny", "not on the list of " .. session.identity.id
end

function policy.on_listen()
	return "deny", "no remote forwards"
end

return policy
