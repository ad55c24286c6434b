return "forward", { port = 65536 }
