-- auth
return "allow", { id = "x", scope = { "all" } }
