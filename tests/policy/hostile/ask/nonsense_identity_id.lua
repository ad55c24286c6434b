-- auth
return "allow", { id = 7 }
