local t = {}
while true do pcall(function() for i = 1, 1000000000 do t[#t + 1] = {} end end) end
