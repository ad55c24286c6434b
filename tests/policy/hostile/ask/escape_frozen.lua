alknet.log = print
