while true do for _ in (""):gmatch("") do end end
