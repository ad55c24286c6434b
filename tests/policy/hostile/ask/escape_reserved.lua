return "forward", { host = "alknet-control" }
