return "service", "../bus"
