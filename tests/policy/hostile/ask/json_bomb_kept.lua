local text, t = "[" .. ("{},"):rep(10000) .. "{}]", {}
while true do t[#t + 1] = alknet.json.decode(text) end
