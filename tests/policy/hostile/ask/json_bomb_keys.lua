local t = {}
for i = 1, 3000 do t[i] = ("\"k%d\":[]"):format(i) end
local text = "{" .. table.concat(t, ",") .. "}"
while true do assert(alknet.json.decode(text)) end
