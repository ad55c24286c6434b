while true do ("x"):rep(255):gsub(".", function() while true do end end) end
