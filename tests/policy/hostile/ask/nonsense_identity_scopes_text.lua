-- auth
return "allow", { scopes = "all" }
