table.sort({ 3, 2, 1 }, function() return coroutine.yield() end)
return "forward"
