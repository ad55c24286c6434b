alknet.sleep(1e9) return "forward"
