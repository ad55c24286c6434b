kept = kept or coroutine.create(function() while true do coroutine.yield() end end)
while true do coroutine.resume(kept) end
