local t = {}
for i = 1, 100 do t[i] = t end
while true do alknet.json.encode(t) end
