table.sort(setmetatable({}, { __len = function() return 2147483646 end }), function() return false end)
