local t, s = {}, ("\0"):rep(200000)
for i = 1, 100 do t[i] = s .. i end
while true do table.sort(t) end
