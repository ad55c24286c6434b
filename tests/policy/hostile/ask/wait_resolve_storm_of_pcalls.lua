while true do pcall(alknet.resolve, "a b") end
