alknet.sleep(0/0) return "forward"
