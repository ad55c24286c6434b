-- SPDX-License-Identifier: MIT OR Apache-2.0
-- The tests of policy.lua; run by `alknet check`.
-- luacheck: read globals test expect expect_equal policy

local session = { user = "alice", identity = { id = "alice" } }

test("every link is allowed", function()
	expect_equal(policy.on_link({ remote_addr = "203.0.113.50" }), "allow")
	expect_equal(policy.on_link({ remote_addr = "2001:db8::1", transport = "tls" }), "allow")
end)

test("the authorized keys decide who may log in", function()
	expect_equal(policy.on_auth({ user = "alice" }), "pass")
	expect_equal(policy.on_auth({ user = "" }), "pass")
end)

test("a destination is forwarded as it was asked for", function()
	for _, host in ipairs({ "www.example.com", "127.0.0.1", "::1", "alknet", "Alknet-control" }) do
		local word, to = policy.on_open(session, { host = host, port = 443 })
		expect_equal(word, "forward")
		expect_equal(next(to), nil)
	end
end)

test("the reserved destinations go to their services", function()
	local services = {
		["alknet-control"] = "bus",
		["alknet-secret"] = "secret",
		["alknet-status"] = "status",
	}
	for host, name in pairs(services) do
		local word, service = policy.on_open(session, { host = host, port = 0 })
		expect_equal(word, "service")
		expect_equal(service, name)
	end
end)

test("a unix socket is not opened", function()
	local word, reason, how = policy.on_open(session, { path = "/run/x.sock" })
	expect_equal(word, "deny")
	expect_equal(reason, "a unix socket is opened by a policy alone")
	expect(not how.failed)
end)

test("other reserved destinations are denied", function()
	for _, host in ipairs({ "alknet-", "alknet-controls", "alknet-x.example.com" }) do
		local word, reason, how = policy.on_open(session, { host = host, port = 1 })
		expect_equal(word, "deny")
		expect_equal(reason, "no such service")
		expect(not how.failed)
	end
end)

test("a remote forward listens on loopback alone", function()
	for _, host in ipairs({ "localhost", "127.0.0.1", "127.9.9.9", "::1" }) do
		local word, bind = policy.on_listen(session, { host = host, port = 0 })
		expect_equal(word, "allow")
		expect_equal(next(bind), nil)
	end
	-- without gateway_ports what is asked for elsewhere is localhost, before the policy is asked
	for _, host in ipairs({ "", "*", "0.0.0.0", "::", "192.0.2.1", "localhost.example.com" }) do
		local word, bind = policy.on_listen(session, { host = host, port = 80 })
		expect_equal(word, "allow")
		expect_equal(next(bind), nil)
	end
	expect_equal(policy.on_listen(session, { path = "/run/x.sock" }), "deny")
end)

test("with gateway_ports a remote forward listens where it was asked for", function()
	for _, host in ipairs({ "", "*", "0.0.0.0", "::", "192.0.2.1", "localhost" }) do
		local word, bind = policy.on_listen(session, { host = host, port = 80, gateway_ports = true })
		expect_equal(word, "allow")
		expect_equal(next(bind), nil)
	end
end)
