alknet.shared.set("k", print) return "forward"
