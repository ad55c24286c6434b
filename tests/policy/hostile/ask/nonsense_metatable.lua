return "forward", setmetatable({}, { __index = { host = "good.example.com" } })
