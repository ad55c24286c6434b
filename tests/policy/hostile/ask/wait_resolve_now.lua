alknet.resolve("a.example") return "forward"
