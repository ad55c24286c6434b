xpcall(error, error)
xpcall(error, function() error("again") end)
error("at last")
