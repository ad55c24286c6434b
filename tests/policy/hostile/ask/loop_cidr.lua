while true do alknet.cidr("10.0.0.0/8"):contains("192.0.2.1") end
