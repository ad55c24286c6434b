return alknet.cidr("::/0").contains("alknet.cidr", "::1")
