-- SPDX-License-Identifier: MIT OR Apache-2.0
-- What a policy sees: the cut-down standard libraries and `alknet`.
std = {
	read_globals = {
		"alknet",
		"assert", "error", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget", "rawlen", "rawset",
		"select", "tonumber", "tostring", "type", "xpcall", "getmetatable", "setmetatable", "print",
		coroutine = { other_fields = true },
		math = { other_fields = true },
		string = { other_fields = true },
		table = { other_fields = true },
		utf8 = { other_fields = true },
	},
}
max_line_length = 100
max_comment_line_length = false
-- The scripts of tests/policy/hostile misbehave on purpose.
exclude_files = { "tests/policy/hostile/**" }
