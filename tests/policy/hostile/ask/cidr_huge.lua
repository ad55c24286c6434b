alknet.cidr(("1"):rep(200000)) return "forward"
