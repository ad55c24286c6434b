return ("x"):rep(2, ("x"):rep(200000))
