while true do alknet.log("debug", "again") print("again") end
