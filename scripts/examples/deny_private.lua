-- SPDX-License-Identifier: MIT OR Apache-2.0
-- Out to the world, but not to the networks behind this machine: a name is resolved here, every address that
-- it has is judged, and the connection goes to an address that was judged. So a name that stands for another
-- address a moment later leads nowhere.

local private = {}
for _, net in ipairs({
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
	-- ::/96 has :: and ::1; the last four carry IPv4 addresses in them
	"::/96", "fc00::/7", "fe80::/10", "ff00::/8",
	"64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32",
}) do
	private[#private + 1] = alknet.cidr(net)
end

local function is_private(address)
	for _, net in ipairs(private) do
		if net:contains(address) ~= false then
			return true
		end
	end
	return false
end

local policy = {}

function policy.on_open(_, destination)
	if destination.reserved or destination.path then
		return "deny", "no services and no sockets"
	end
	local addresses, why = alknet.resolve(destination.host)
	if not addresses then
		return "deny", why
	end
	for _, address in ipairs(addresses) do
		if is_private(address) then
			return "deny", "private network"
		end
	end
	return "forward", { host = addresses[1] }
end

return policy
