while true do alknet.shared.incr("n") end
