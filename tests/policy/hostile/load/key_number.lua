return { function() return "deny" end }
