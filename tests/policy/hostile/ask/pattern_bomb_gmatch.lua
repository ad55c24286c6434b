for _ in (("a"):rep(255)):gmatch(("a*"):rep(30) .. "b") do end
