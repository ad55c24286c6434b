-- SPDX-License-Identifier: MIT OR Apache-2.0
-- A bus that most may only listen to: who has the scope "publish" may publish and call what others serve; who has
-- "serve" may be a spoke. Everybody may subscribe, but not to what is under "internal.", and look around.

local policy = {}

local function has(session, wanted)
	for _, scope in ipairs(session.identity.scopes) do
		if scope == wanted then
			return true
		end
	end
	return false
end

function policy.on_open(_, destination)
	if destination.host == "alknet-control" then
		return "service", "bus"
	end
	return "deny", "the bus and nothing else"
end

function policy.on_listen()
	return "deny", "the bus and nothing else"
end

function policy.on_publish(session)
	if has(session, "publish") then
		return "allow"
	end
	return "deny", "this bus is read-only"
end

-- A pattern that begins with a wildcard would match what is internal.
function policy.on_subscribe(session, topic)
	local first = topic:match("^[^.:]*")
	if has(session, "publish") or (first ~= "*" and first ~= ">" and first ~= "internal") then
		return "allow"
	end
	return "deny", "name a topic that is not internal"
end

function policy.on_call(session, operation)
	if operation == "/services/list" or operation == "/services/schema" then
		return "allow"
	end
	if operation == "/hub/services/register" then
		if has(session, "serve") then
			return "allow"
		end
		return "deny", "this bus is read-only"
	end
	if has(session, "publish") then
		return "allow"
	end
	return "deny", "this bus is read-only"
end

return policy
