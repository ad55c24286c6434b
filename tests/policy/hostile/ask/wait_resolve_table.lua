alknet.resolve(setmetatable({}, { __tostring = function() return "a" end })) return "forward"
