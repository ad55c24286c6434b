-- auth
return "allow", { scopes = { "a", 1 } }
