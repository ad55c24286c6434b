local text = "[" .. ("{},"):rep(10000) .. "{}]"
while true do alknet.json.decode(text) end
