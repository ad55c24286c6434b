while true do alknet.json.encode({ [math.maxinteger] = 1 }) end
