local mt = {}
local a, b = setmetatable({}, mt), setmetatable({}, mt)
mt.__eq = function(x, y) return x == y end
return a == b
