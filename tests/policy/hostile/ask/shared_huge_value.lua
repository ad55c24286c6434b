alknet.shared.set("k", ("v"):rep(200000)) return "forward"
