getmetatable(alknet.cidr("::/0")).__index = nil
