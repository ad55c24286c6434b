local all, before = {}, {}
for i = 1, 1000000 do
	local w, key = setmetatable({}, { __mode = "k" }), {}
	w[before] = key
	before = key
	all[i] = w
end
