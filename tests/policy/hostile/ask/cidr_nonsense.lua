alknet.cidr("10.0.0.0/8/8") return "forward"
