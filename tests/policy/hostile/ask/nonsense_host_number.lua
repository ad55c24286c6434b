return "forward", { host = 1 }
