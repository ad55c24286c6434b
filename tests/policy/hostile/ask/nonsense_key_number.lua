return "forward", { "good.example.com" }
