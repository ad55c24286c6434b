return "deny", {}
