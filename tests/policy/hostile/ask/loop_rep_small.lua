while true do local _ = ("x"):rep(262144) end
