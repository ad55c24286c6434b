local t = {}
for i = 0, 62 do t[1 << i] = 1 end
table.insert(t, 1, 1)
