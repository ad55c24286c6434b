-- wrecks
kept = kept or {}
while true do kept[#kept + 1] = {} end
