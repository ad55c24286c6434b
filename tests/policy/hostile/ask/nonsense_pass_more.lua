-- auth
return "pass", { id = "x" }
