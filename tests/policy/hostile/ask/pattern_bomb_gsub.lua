return (("a"):rep(255)):gsub(("a?"):rep(31) .. ("a*"):rep(0) .. "b", "")
