kept = coroutine.running()
coroutine.yield()
