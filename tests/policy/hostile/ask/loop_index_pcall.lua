local t
t = setmetatable({}, { __index = function(_, k) pcall(function() return t[k + 1] end) return t[k + 1] end })
return t[1]
