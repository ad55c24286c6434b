-- auth
return "allow", { scopes = { all = true } }
