-- auth
return "allow", "root"
