local p, s = ("*a"):rep(127), ("a"):rep(254) .. "b"
while true do alknet.glob(p, s) end
