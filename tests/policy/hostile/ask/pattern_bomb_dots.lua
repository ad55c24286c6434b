return (("."):rep(255)):match("^(.-)%.(.-)%.(.-)%.(.-)%.(.-)%.example%.com$")
