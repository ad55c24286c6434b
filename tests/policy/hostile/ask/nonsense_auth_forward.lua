-- auth
return "forward"
