return "forward", { via = "gopher://x" }
