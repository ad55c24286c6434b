return { "forward" }
