return "service"
