return "service", 1
