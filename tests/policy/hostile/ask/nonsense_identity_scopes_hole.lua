-- auth
return "allow", { scopes = { "a", nil, "b", x = "c" } }
