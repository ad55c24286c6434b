alknet.cidr("fe80::1%lo/64") return "forward"
