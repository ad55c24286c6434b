-- SPDX-License-Identifier: MIT OR Apache-2.0
-- Office hours: from Monday to Friday, 8 to 18 o'clock, everybody; at other times those on call, ten
-- connections a minute. Who breaks in line too often is not asked again for a while, by any worker.

local offset = 1 * 3600 -- seconds east of Greenwich; there is no summer time here
local first_hour, last_hour = 8, 18
local denials_allowed, denials_forgotten = 20, 600

-- 1970 began on a Thursday. 1 is Monday.
local function local_time(now)
	local seconds = math.floor(now + offset)
	return (seconds // 86400 + 3) % 7 + 1, seconds // 3600 % 24
end

local function is_office_time(now)
	local day, hour = local_time(now)
	return day <= 5 and hour >= first_hour and hour < last_hour
end

local function is_on_call(identity)
	for _, scope in ipairs(identity.scopes) do
		if scope == "on-call" then
			return true
		end
	end
	return false
end

local policy = {}

function policy.on_link(link)
	local denials = alknet.shared.get("denied " .. (link.remote_addr or ""))
	if denials and denials > denials_allowed then
		return "deny", "too many denials"
	end
	return "allow"
end

function policy.on_open(session, destination)
	if destination.reserved or destination.path then
		return "deny", "no services and no sockets"
	end
	if is_office_time(alknet.now()) then
		return "forward"
	end
	if is_on_call(session.identity) then
		if alknet.limit(session.identity.id, 10 / 60, 10) then
			return "forward"
		end
		return "deny", "ten a minute outside of office hours"
	end
	alknet.shared.incr("denied " .. (session.link.remote_addr or ""), 1, denials_forgotten)
	return "deny", "outside of office hours"
end

return policy
