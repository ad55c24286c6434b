string.gsub("abc", ".", function() alknet.resolve("a.example") end) return "forward"
