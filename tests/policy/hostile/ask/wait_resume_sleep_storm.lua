local function f() alknet.sleep(0) end
while true do coroutine.resume(coroutine.create(f)) end
