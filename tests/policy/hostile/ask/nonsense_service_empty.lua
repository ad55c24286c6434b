return "service", ""
