local _ENV <const> = nil
return { on_open = function() return x end, y = z }
