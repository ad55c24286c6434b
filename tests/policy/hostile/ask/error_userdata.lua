error(alknet.cidr("::/0"))
