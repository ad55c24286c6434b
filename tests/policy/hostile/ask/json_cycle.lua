local t = {} t.t = t
while true do alknet.json.encode(t) end
