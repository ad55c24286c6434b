pcall(coroutine.yield, "forward")
return "forward"
