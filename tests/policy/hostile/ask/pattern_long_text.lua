return (("a"):rep(256)):find("a")
