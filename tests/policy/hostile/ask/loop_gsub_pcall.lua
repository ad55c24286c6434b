while true do ("x"):rep(255):gsub(".", pcall) end
