return "forward", { path = "socket" }
