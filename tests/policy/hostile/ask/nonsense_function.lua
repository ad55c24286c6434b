return function() return "forward" end
