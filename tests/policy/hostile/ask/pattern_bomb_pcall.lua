while true do pcall(string.find, ("a"):rep(255), ("a-"):rep(31) .. "b") end
