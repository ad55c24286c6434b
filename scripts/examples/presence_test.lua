-- SPDX-License-Identifier: MIT OR Apache-2.0
-- luacheck: read globals test expect expect_equal policy

local function list(input)
	return policy.call("/presence/list", input or {})
end

test("who was heard of is there, with its state", function()
	expect_equal(list().count, 0)
	policy.on_event({ type = "presence.dev2", payload = { state = "busy" } })
	policy.on_event({ type = "presence.dev1", payload = 7 })
	policy.on_event({ type = "presence.dev1", payload = { state = {} } })
	local got = list({ within = 5 })
	expect_equal(got.count, 2)
	expect_equal(got.present[1].name, "dev1")
	expect_equal(got.present[1].state, "here")
	expect_equal(got.present[2].state, "busy")
	expect(got.present[2].silent < 5)
end)

test("there is an end to names", function()
	for i = 1, 1100 do
		policy.on_event({ type = "presence.n" .. i, payload = {} })
	end
	expect_equal(list({ within = 86400 }).count, 1000)
end)
