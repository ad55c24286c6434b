return "forward", { port = 0 }
