return "forward|service|deny"
