rawset(alknet, "log", print)
