setmetatable(alknet, {})
