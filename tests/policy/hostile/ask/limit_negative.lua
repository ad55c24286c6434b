return alknet.limit("k", -1, 5) and "forward"
