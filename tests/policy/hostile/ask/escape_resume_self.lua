assert(coroutine.resume(coroutine.running()))
return "forward"
