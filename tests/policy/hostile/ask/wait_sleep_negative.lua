alknet.sleep(-1) return "forward"
