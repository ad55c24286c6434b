error(alknet.json.encode(setmetatable({}, { __index = function() while true do end end, __pairs = function() while true do end end, __tostring = function() while true do end end })))
