-- SPDX-License-Identifier: MIT OR Apache-2.0
-- luacheck: read globals test expect expect_equal policy

local reader = { identity = { id = "reader" } }
local writer = { identity = { id = "writer", scopes = { "publish" } } }
local spoke = { identity = { id = "dev1", scopes = { "serve" } } }

test("the bus and nothing else", function()
	local word, name = policy.on_open(reader, { host = "alknet-control", port = 1 })
	expect_equal(word, "service")
	expect_equal(name, "bus")
	expect_equal(policy.on_open(writer, { host = "alknet-secret", port = 1 }), "deny")
	expect_equal(policy.on_open(writer, { host = "example.net", port = 1 }), "deny")
	expect_equal(policy.on_listen(writer, { host = "localhost", port = 1 }), "deny")
end)

test("who may publish", function()
	expect_equal(policy.on_publish(reader, { type = "a", id = "", size = 40 }), "deny")
	expect_equal(policy.on_publish(spoke, { type = "a" }), "deny")
	expect_equal(policy.on_publish(writer, { type = "a" }), "allow")
end)

test("who may subscribe to what", function()
	for _, topic in ipairs({ "a", "a.*", "a.>", "internals", "a.internal" }) do
		expect_equal(policy.on_subscribe(reader, topic), "allow", topic)
	end
	local inner = { "internal", "internal.x", "internal:7", "*", ">", "*.x", ">:7", "internal.>" }
	for _, topic in ipairs(inner) do
		expect_equal(policy.on_subscribe(reader, topic), "deny", topic)
		expect_equal(policy.on_subscribe(writer, topic), "allow", topic)
	end
end)

test("who may call what", function()
	expect_equal(policy.on_call(reader, "/services/list"), "allow")
	expect_equal(policy.on_call(reader, "/hub/services/register"), "deny")
	expect_equal(policy.on_call(spoke, "/hub/services/register"), "allow")
	expect_equal(policy.on_call(spoke, "/dev1/fs/read"), "deny")
	expect_equal(policy.on_call(writer, "/dev1/fs/read"), "allow")
end)
