local co = coroutine.create(alknet.resolve) assert(coroutine.resume(co, "a.example")) return "forward"
