return alknet.limit(("k"):rep(256), 1, 1) and "forward"
