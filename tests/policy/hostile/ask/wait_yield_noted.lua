pcall(coroutine.wrap(alknet.sleep), 0) coroutine.yield() return "forward"
