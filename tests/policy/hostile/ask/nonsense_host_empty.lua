return "forward", { host = "" }
