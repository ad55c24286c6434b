return "forward", { bind = "localhost" }
