setmetatable(_G, { __index = function() while true do end end, __newindex = error })
for name in next, _G do rawset(_G, name, nil) end
error("wrecked")
