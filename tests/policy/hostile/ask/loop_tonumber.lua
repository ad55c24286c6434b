local s = ("9"):rep(262144)
while true do tonumber(s, 10) tonumber(s) end
