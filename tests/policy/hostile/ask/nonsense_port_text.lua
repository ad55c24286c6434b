return "forward", { port = "80" }
