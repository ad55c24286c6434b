error("x\nlevel=info msg=\"auth attempt\" result=accept\27[2J\0")
