getmetatable(alknet).__index.log = print
