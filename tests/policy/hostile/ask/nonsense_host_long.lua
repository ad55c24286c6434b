return "forward", { host = ("x"):rep(256) }
