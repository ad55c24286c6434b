coroutine.yield({})
