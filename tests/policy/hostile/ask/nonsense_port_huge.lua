return "forward", { port = 1e308 }
