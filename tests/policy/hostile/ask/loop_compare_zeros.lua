local a, b = ("\0"):rep(262000) .. "a", ("\0"):rep(262000) .. "b"
local n = 0
while true do if a < b then n = n + 1 end end
