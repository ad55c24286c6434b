-- auth
return "allow", { id = "" }
