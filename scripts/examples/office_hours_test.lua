-- SPDX-License-Identifier: MIT OR Apache-2.0
-- luacheck: read globals test expect expect_equal policy given_time

local friday_noon = 1800010800 -- 2027-01-15 11:00 UTC, 12:00 there, a Friday
local web = { host = "www.example.com", port = 443 }
local alice = { identity = { id = "alice" }, link = { remote_addr = "192.0.2.1" } }

local function asked_at(time, session)
	given_time(time)
	local word, _, how = policy.on_open(session or alice, web)
	expect(not how.failed)
	return word
end

test("in office hours everybody goes through", function()
	expect_equal(asked_at(friday_noon), "forward")
	expect_equal(asked_at(friday_noon - 4 * 3600), "forward")
	expect_equal(asked_at(friday_noon + 6 * 3600 - 1), "forward")
	expect_equal(asked_at(friday_noon + 3 * 86400), "forward")
end)

test("nights and weekends are closed", function()
	expect_equal(asked_at(friday_noon - 4 * 3600 - 1), "deny")
	expect_equal(asked_at(friday_noon + 6 * 3600), "deny")
	expect_equal(asked_at(friday_noon + 86400), "deny")
	expect_equal(asked_at(friday_noon + 2 * 86400), "deny")
end)

test("those on call have ten a minute", function()
	local carol = { identity = { id = "carol", scopes = { "on-call" } } }
	for _ = 1, 10 do
		expect_equal(asked_at(friday_noon + 86400, carol), "forward")
	end
	expect_equal(asked_at(friday_noon + 86400, carol), "deny")
	expect_equal(asked_at(friday_noon + 86400 + 6, carol), "forward")
end)

test("who is denied too often is not let in for a while", function()
	local mallory = { identity = { id = "mallory" }, link = { remote_addr = "198.51.100.9" } }
	local night = friday_noon + 12 * 3600
	for _ = 1, 21 do
		expect_equal(policy.on_link(mallory.link), "allow")
		expect_equal(asked_at(night, mallory), "deny")
	end
	expect_equal(policy.on_link(mallory.link), "deny")
	expect_equal(policy.on_link({ remote_addr = "198.51.100.10" }), "allow")
	given_time(night + 601)
	expect_equal(policy.on_link(mallory.link), "allow")
end)
