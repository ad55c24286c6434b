-- SPDX-License-Identifier: MIT OR Apache-2.0
-- luacheck: read globals test expect expect_equal policy

local alice = { identity = { id = "alice" } }
local bob = { identity = { id = "bob" } }

test("keys and certificates have identities", function()
	local word, identity = policy.on_auth({
		user = "root",
		key_fingerprint = "SHA256:uNiVztksCsDhcc0u9e8BxrQXVUpKZIDTMczCvj3tD2s",
	})
	expect_equal(word, "allow")
	expect_equal(identity.id, "alice")
	expect_equal(identity.scopes[1], "operator")
	expect_equal(policy.on_auth({ user = "alice" }), "pass")
	word, identity = policy.on_auth({ user = "x", certificate = { principals = { "bob" } } })
	expect_equal(word, "allow")
	expect_equal(identity.id, "bob")
	expect_equal(policy.on_auth({ certificate = { principals = { "carol" } } }), "deny")
	expect_equal(policy.on_auth({ user = "alice", certificate = {} }), "deny")
end)

test("the list decides", function()
	expect_equal(policy.on_open(alice, { host = "git.example.com", port = 22 }), "forward")
	expect_equal(policy.on_open(alice, { host = "DB.internal", port = 5432 }), "forward")
	expect_equal(policy.on_open(bob, { host = "www.example.com", port = 443 }), "forward")
end)

test("what is not on it is denied", function()
	for _, host in ipairs({
		"example.com", "example.com.evil.net", "badexample.com", "db.internal", "",
	}) do
		local word, _, how = policy.on_open(alice, { host = host, port = 443 })
		expect_equal(word, "deny")
		expect(not how.failed)
	end
	expect_equal(policy.on_open(bob, { host = "www.example.com", port = 22 }), "deny")
	expect_equal(policy.on_open(bob, { host = "git.example.com", port = 443 }), "deny")
	local mallory = { identity = { id = "mallory" } }
	expect_equal(policy.on_open(mallory, { host = "www.example.com" }), "deny")
	expect_equal(policy.on_open(alice, { host = "alknet-control", port = 1 }), "deny")
	expect_equal(policy.on_open(alice, { path = "/run/docker.sock" }), "deny")
	expect_equal(policy.on_listen(alice, { host = "127.0.0.1", port = 1 }), "deny")
end)
