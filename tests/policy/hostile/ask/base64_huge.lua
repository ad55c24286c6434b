alknet.base64.decode(("A"):rep(200000)) return "forward"
