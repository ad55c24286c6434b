return "forward", { port = 80.5 }
