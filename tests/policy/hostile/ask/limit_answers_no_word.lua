return alknet.limit("k", 1, 5)
