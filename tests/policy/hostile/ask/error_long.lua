error(("x"):rep(200000))
