coroutine.yield("forward")
return "forward"
