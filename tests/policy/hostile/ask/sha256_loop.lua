local text = ("x"):rep(65536)
while true do alknet.sha256(text) end
