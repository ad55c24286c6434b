return ("%s"):rep(60000):format(table.unpack({}, 1, 60000))
