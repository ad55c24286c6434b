for k in pairs(session) do session[k] = nil end
for k in pairs(destination) do destination[k] = nil end
return session.link.remote_addr
