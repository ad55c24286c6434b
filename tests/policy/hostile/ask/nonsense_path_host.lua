return "forward", { path = "/run/socket", host = "good.example.com" }
