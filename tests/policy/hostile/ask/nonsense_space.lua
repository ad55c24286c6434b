return "forward "
