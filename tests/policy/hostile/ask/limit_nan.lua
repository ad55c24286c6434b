return alknet.limit("k", 0/0, 0/0) and "forward"
