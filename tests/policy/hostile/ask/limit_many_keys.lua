local i = 0
while true do i = i + 1 alknet.limit("k" .. i, 1, 1) end
