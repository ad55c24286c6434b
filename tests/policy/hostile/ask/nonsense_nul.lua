return "forward\0"
