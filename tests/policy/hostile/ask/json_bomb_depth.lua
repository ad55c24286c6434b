local text = ("["):rep(60000)
while true do alknet.json.decode(text) end
