return { on_opne = function() return "deny" end }
