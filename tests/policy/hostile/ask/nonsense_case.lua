return "Forward"
