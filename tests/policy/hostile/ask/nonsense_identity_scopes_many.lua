-- auth
local all = {}
for i = 1, 257 do all[i] = "x" end
return "allow", { scopes = all }
