return "forward", table.unpack({}, 1, 10000)
