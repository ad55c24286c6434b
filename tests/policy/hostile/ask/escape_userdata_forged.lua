local contains = alknet.cidr("::/0").contains
return contains({}, "::1")
