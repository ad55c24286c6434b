alknet.shared.set(("k"):rep(200000), 1) return "forward"
