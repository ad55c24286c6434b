local i = 0
while true do i = i + 1 alknet.shared.set("k" .. i, ("v"):rep(300), 1) end
