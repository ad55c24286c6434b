local t = {}
for i = 1, 1000000000 do t[i * 1.5] = i end
