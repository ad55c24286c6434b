alknet.shared.set("k", 1, 0/0) return "forward"
