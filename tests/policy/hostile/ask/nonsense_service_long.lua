return "service", ("x"):rep(32)
