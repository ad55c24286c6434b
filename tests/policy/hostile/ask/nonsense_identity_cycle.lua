-- auth
local t = { id = "x" }
t.scopes = t
return "allow", t
