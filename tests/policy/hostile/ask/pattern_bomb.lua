return (("a"):rep(40)):find(("a*"):rep(8) .. "b")
