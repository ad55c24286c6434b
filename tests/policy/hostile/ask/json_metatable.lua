getmetatable(alknet.json).__index = nil return "forward"
