return "forward", {}, "more"
