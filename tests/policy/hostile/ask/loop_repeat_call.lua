local function f() end
repeat f() until false
