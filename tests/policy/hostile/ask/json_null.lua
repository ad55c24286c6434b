return alknet.json.decode("null") or alknet.json.decode("[null]")
