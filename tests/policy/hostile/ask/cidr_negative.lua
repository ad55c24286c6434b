alknet.cidr("10.0.0.0/-1") return "forward"
