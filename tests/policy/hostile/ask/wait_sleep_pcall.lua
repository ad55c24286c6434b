pcall(alknet.sleep, 0/0) pcall(alknet.sleep, 1e9) error("over")
