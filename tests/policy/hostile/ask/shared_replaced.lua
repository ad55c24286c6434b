alknet.shared.get = function() return true end return "forward"
