return "forward", { host = "good.example.com\0.evil.example" }
