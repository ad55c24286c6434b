-- SPDX-License-Identifier: MIT OR Apache-2.0
-- luacheck: read globals test expect expect_equal policy given_hosts

local session = { identity = { id = "alice" } }

local function open(host)
	local word, detail, how = policy.on_open(session, { host = host, port = 443 })
	expect(not how.failed)
	return word, detail
end

test("the address that was judged is connected to", function()
	given_hosts({ ["www.example.com"] = { "203.0.113.5", "2001:db8::5" } })
	local word, to = open("www.example.com")
	expect_equal(word, "forward")
	expect_equal(to.host, "203.0.113.5")
	expect_equal(to.port, nil)
end)

test("one private address is enough", function()
	given_hosts({
		["a.example"] = { "203.0.113.5", "10.0.0.9" },
		["b.example"] = { "169.254.169.254" },
		["c.example"] = { "203.0.113.5", "::1" },
		["d.example"] = { "64:ff9b::a00:1" },
	})
	for _, host in ipairs({ "a.example", "b.example", "c.example", "d.example" }) do
		local word, reason = open(host)
		expect_equal(word, "deny")
		expect_equal(reason, "private network")
	end
end)

test("addresses are judged as they stand", function()
	for _, host in ipairs({
		"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:10.0.0.1", "fe80::1", "fd00::1",
		"192.168.1.1", "2002:a00:1::", "::127.0.0.1", "100.64.0.1", "255.255.255.255", "ff02::1",
	}) do
		expect_equal(open(host), "deny")
	end
	expect_equal(open("203.0.113.7"), "forward")
	expect_equal(open("2001:db8::7"), "forward")
end)

test("what has no address is denied", function()
	for _, host in ipairs({
		"gone.example", "", "0x7f.1", "2130706433", "fe80::1%eth0", "alknet-control",
	}) do
		expect_equal(open(host), "deny")
	end
	expect_equal(policy.on_open(session, { path = "/run/x.sock" }), "deny")
end)
