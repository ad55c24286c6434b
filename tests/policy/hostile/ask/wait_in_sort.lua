table.sort({3, 2, 1}, function(a, b) alknet.sleep(0) return a < b end) return "forward"
