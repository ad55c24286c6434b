return "pass"
