getmetatable("").__index = function() return function() end end
