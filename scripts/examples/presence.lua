-- SPDX-License-Identifier: MIT OR Apache-2.0
-- A service of the bus in Lua: who is there. A program publishes events of the type presence.NAME now and then, with
-- a state as their payload; anybody may call /presence/list, which tells those that were heard of lately.

local MOST = 1000 -- names that are kept; the one that was silent for longest makes room
local LATELY = 60 -- seconds

local seen, count = {}, 0

local function oldest()
	local name
	for other, one in pairs(seen) do
		if not name or one.at < seen[name].at then
			name = other
		end
	end
	return name
end

-- Every worker hears every event, so each one's table is whole.
alknet.subscribe("presence.*")

local policy = {}

function policy.on_event(event)
	local name = event.type:sub(#"presence." + 1)
	local state = type(event.payload) == "table" and event.payload.state
	if not seen[name] then
		if count == MOST then
			seen[oldest()] = nil
			count = count - 1
		end
		count = count + 1
	end
	seen[name] = { at = alknet.now(), state = type(state) == "string" and state or "here" }
end

alknet.operation("/presence/list", {
	op_type = "query",
	input_schema = {
		type = "object",
		properties = { within = { type = "number", minimum = 1, maximum = 86400 } },
		additionalProperties = false,
	},
	output_schema = { type = "object", required = { "count" } },
}, function(input)
	local now, present = alknet.now(), {}
	for name, one in pairs(seen) do
		if now - one.at <= (input and input.within or LATELY) then
			present[#present + 1] = { name = name, state = one.state, silent = now - one.at }
		end
	end
	table.sort(present, function(a, b)
		return a.name < b.name
	end)
	return { count = #present, present = #present > 0 and present or nil }
end)

return policy
