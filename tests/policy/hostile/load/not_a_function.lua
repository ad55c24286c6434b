return { on_open = "deny" }
