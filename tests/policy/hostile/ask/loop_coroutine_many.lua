local all = {}
for i = 1, 5000 do all[i] = coroutine.create(function() while true do coroutine.yield() end end) end
while true do for _, co in ipairs(all) do coroutine.resume(co) end end
