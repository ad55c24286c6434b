local x <close> = setmetatable({}, { __close = function() alknet.sleep(0) end }) return "forward"
