return "forward", { path = "/" .. ("x"):rep(107) }
