local a, b = ("\0"):rep(262000) .. "a", ("\0"):rep(262000) .. "b"
local _
while true do
	_ = a < b, a < b, a < b, a < b
	_ = a < b, a < b, a < b, a < b
	_ = a < b, a < b, a < b, a < b
	_ = a < b, a < b, a < b, a < b
	_ = a < b, a < b, a < b, a < b
	_ = a < b, a < b, a < b, a < b
	_ = a < b, a < b, a < b, a < b
	_ = a < b, a < b, a < b, a < b
end
