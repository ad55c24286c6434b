return "allow"
