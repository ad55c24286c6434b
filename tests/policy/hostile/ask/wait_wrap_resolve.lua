local f = coroutine.wrap(alknet.resolve) f("a.example") return "forward"
