local t = {}
for i = 1, 400000 do t[i] = (i * 7919) % 400009 end
table.sort(t)
return "forward"
