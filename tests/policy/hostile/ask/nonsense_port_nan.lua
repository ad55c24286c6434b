return "forward", { port = 0 / 0 }
