return "forward", { hots = "good.example.com" }
