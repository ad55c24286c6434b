return "deny", "because", "of", "more"
