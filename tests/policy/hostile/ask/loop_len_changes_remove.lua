local asked = 0
local t = setmetatable({}, { __len = function() asked = asked + 1; return asked % 2 == 0 and 1000000000 or 0 end })
table.remove(t, 1)
return 'forward'
