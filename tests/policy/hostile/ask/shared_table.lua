alknet.shared.set("k", {}) return "forward"
