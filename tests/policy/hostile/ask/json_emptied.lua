-- a table that was emptied keeps its places, and each is looked at each time that the table is met
emptied, many = {}, {}
for i = 1, 8000 do emptied['k' .. i] = 1 end
for i = 1, 8000 do emptied['k' .. i] = nil; many[i] = emptied end
alknet.json.encode(many)
return 'forward'
