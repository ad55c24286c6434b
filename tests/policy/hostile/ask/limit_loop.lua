while true do alknet.limit("k", 1, 1) end
