return setmetatable({}, { __index = { on_open = function() return "deny" end } })
