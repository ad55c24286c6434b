return ("a"):find(("a"):rep(65))
