return ("a"):find(("()"):rep(33))
