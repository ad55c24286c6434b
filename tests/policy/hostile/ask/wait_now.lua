alknet.sleep(0) return "forward"
