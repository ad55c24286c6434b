-- SPDX-License-Identifier: MIT OR Apache-2.0
-- luacheck: read globals test expect expect_equal policy given_hosts

local session = { identity = { id = "app" } }

local function open(host, port)
	local word, detail, how = policy.on_open(session, { host = host, port = port or 1 })
	expect(not how.failed)
	return word, detail
end

test("only this machine", function()
	expect_equal(policy.on_link({ remote_addr = "127.0.0.1" }), "allow")
	expect_equal(policy.on_link({ remote_addr = "::1" }), "allow")
	expect_equal(policy.on_link({ remote_addr = "192.0.2.1" }), "deny")
end)

test("upstreams are where the table says, whatever port was asked for", function()
	local word, to = open("db", 22)
	expect_equal(word, "forward")
	expect_equal(to.host, "192.0.2.10")
	expect_equal(to.port, 5432)
	word, to = open("metrics")
	expect_equal(word, "forward")
	expect_equal(to.path, "/run/metrics.sock")
	expect_equal(to.host, nil)
end)

test("an upstream by name has to be in its network", function()
	given_hosts({ ["queue.internal.example"] = { "192.0.2.77" } })
	local word, to = open("queue")
	expect_equal(word, "forward")
	expect_equal(to.host, "192.0.2.77")
	expect_equal(to.port, 5672)
	given_hosts({ ["queue.internal.example"] = { "192.0.2.77", "203.0.113.1" } })
	expect_equal(open("queue"), "deny")
	given_hosts({})
	expect_equal(open("queue"), "deny")
end)

test("nothing else is reached", function()
	for _, host in ipairs({ "192.0.2.10", "DB", "db.", "", "alknet-control", "127.0.0.1" }) do
		expect_equal(open(host), "deny")
	end
	expect_equal(policy.on_open(session, { path = "/run/metrics.sock" }), "deny")
end)

test("one port is listened on, on this machine", function()
	local word, on = policy.on_listen(session, { host = "", port = 8080 })
	expect_equal(word, "allow")
	expect_equal(on.host, "127.0.0.1")
	expect_equal(policy.on_listen(session, { host = "127.0.0.1", port = 22 }), "deny")
end)
