while true do (("("):rep(255)):find("%b()%b()%b()") end
