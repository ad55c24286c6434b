local text = ("x"):rep(65536)
while true do alknet.base64.encode(text) end
