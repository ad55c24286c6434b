# SPDX-License-Identifier: MIT OR Apache-2.0
"""alknet policy eval and alknet policy test."""

import json
import re
import subprocess

import pytest

from harness import procs
from harness.waiting import scaled

POLICY = """
local P = {}
function P.on_link(link)
  if link.remote_addr == "198.51.100.1" then return "deny", "not from there" end
  return "allow"
end
function P.on_auth(request)
  local cert = request.certificate
  if cert then
    assert(cert.serial == "18446744073709551615" and cert.valid_before == nil)
    assert(cert.extensions["permit-pty"] == "")
    return "allow", { id = cert.key_id, scopes = cert.principals, resources = { cert.critical_options["source-address"] } }
  end
  if request.user == "mallory" then return nonsense.x end
  return "pass"
end
function P.on_open(session, destination)
  if session.identity.id == "kid" or session.identity.scopes[1] == "web" then
    return "forward", { host = "192.0.2.1", port = 8080, bind = "127.0.0.1" }
  end
  return "deny", "not for " .. session.identity.id
end
return P
"""


def run(*words):
    return subprocess.run([procs.alknet(), "policy", *map(str, words)], capture_output=True, text=True,
                          timeout=scaled(20), env=procs.environment(), check=False)


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.lua"
    path.write_text(POLICY)
    return path


@pytest.fixture
def ask(policy):
    def run_eval(*words):
        out = run("eval", "--policy", policy, "--json", *words)
        assert out.stdout, out.stderr
        result = json.loads(out.stdout)
        assert out.returncode == (0 if result["allowed"] else 1)
        return result

    return run_eval


def test_eval_tells_word_identity_line_and_time(policy, keys, ask):
    out = run("eval", "--policy", policy, "--user", "alice", "--key", f"{keys.path('user')}.pub", "--to", "www.example.com:443")
    fingerprint = procs.fingerprint(keys.path("user"))
    assert out.returncode == 1, out.stderr
    assert f"on_open: deny: not for {fingerprint}" in out.stdout
    assert re.search(r"/policy\.lua:21, in \d+\.\d{3} ms", out.stdout)
    result = ask("--user", "alice", "--key-fingerprint", fingerprint, "--to", "www.example.com:443")
    assert [a["question"] for a in result["answers"]] == ["on_link", "on_auth", "on_open"]
    assert [a["word"] for a in result["answers"]] == ["allow", "pass", "deny"]
    assert result["answers"][2]["identity"] == {"id": fingerprint, "scopes": [], "resources": []}
    assert not result["answers"][2]["failed"] and result["answers"][2]["elapsed_us"] < 1000000


def test_eval_of_a_certificate(tmp_path, keys, ask):
    """What ssh-keygen signs is what the policy sees."""
    key = tmp_path / "id"
    procs.make_key(key)
    subprocess.run(["ssh-keygen", "-q", "-s", keys.path("host"), "-I", "kid", "-n", "alice,bob", "-z", "18446744073709551615",
                    "-O", "source-address=192.0.2.0/24", f"{key}.pub"], check=True)
    result = ask("--key", f"{key}-cert.pub", "--to", "www.example.com:443")
    assert result["allowed"]
    assert result["answers"][1]["identity"] == {"id": "kid", "scopes": ["alice", "bob"], "resources": ["192.0.2.0/24"]}
    assert result["answers"][2]["forward"] == {"host": "192.0.2.1", "port": 8080, "bind": "127.0.0.1"}


def test_eval_stops_at_the_first_denial(ask):
    result = ask("--from", "198.51.100.1", "--id", "kid", "--to", "[2001:db8::1]:22")
    assert len(result["answers"]) == 1 and result["answers"][0]["reason"] == "not from there"
    result = ask("--from", "[2001:db8::1]:5000", "--id", "x", "--scope", "web", "--to", "[2001:db8::1]:22")
    assert result["answers"][-1]["word"] == "forward"


def test_t66_eval_of_a_script_that_fails(ask):
    answer = ask("--user", "mallory", "--key-fingerprint", "SHA256:x")["answers"][-1]
    assert answer["word"] == "deny" and answer["failed"]
    assert answer["where"].endswith("/policy.lua:14") and "nonsense" in answer["reason"]


def test_eval_of_the_built_in_answers(keys, tmp_path):
    conf = tmp_path / "alknet.conf"
    conf.write_text(f'return {{ key = "{keys.path("host")}", authorized_keys = "{keys.authorized}" }}')
    wide = tmp_path / "wide.conf"
    wide.write_text(conf.read_text().replace("}", ", gateway_ports = true }"))
    for words, status, text in [
        (["--to", "alknet-control:1"], 0, "service bus"),
        (["--to", "alknet-x:1"], 1, "no such service"),
        (["--to", "/run/x.sock"], 1, "a unix socket is opened by a policy alone"),
        (["--listen", "localhost:0"], 0, "localhost port 0"),
        (["--listen", ":80"], 0, "on localhost port 80"),
        (["--listen", "192.0.2.1:80"], 0, "on localhost port 80"),
        (["--listen", "/run/x"], 1, "only loopback"),
        (["--listen", ":80", "--gateway-ports"], 0, "on every address port 80"),
        (["-c", wide, "--listen", "192.0.2.1:80"], 0, "on 192.0.2.1 port 80"),
        (["-c", conf, "--to", "example.com:1"], 0, "example.com port 1"),
        (["--to", "example.com:1", "--question", "on_open"], 0, "built-in"),
    ]:
        out = run("eval", *words)
        assert out.returncode == status and text in out.stdout, (words, out)


@pytest.mark.parametrize(("words", "name"), [
    (["--to", "nowhere"], "to"), (["--to", ":80"], "to"), (["--from", "example.com"], "from"), (["--nonsense"], "nonsense"),
    (["--key", "/nonexistent"], "/nonexistent"), (["--key", __file__], "key"), (["--question", "on_close"], "questions"),
    (["--question", "on_open"], "on_open"), (["--policy", "/nonexistent"], "/nonexistent"), (["--user"], "user"), (["word"], "flags"),
    (["-c", "/nonexistent"], "/nonexistent"), (["-c", "x", "--policy", "y"], "--policy"),
    (["--json=1"], "--json=1: takes no value"), (["--jso"], "--jso: there is no such flag"),
    (["--pol", "/nonexistent"], "--pol: there is no such flag"),
])
def test_eval_of_what_is_wrong(words, name):
    out = run("eval", *words)
    assert out.returncode == 2 and out.stdout == "" and len(out.stderr.splitlines()) == 1 and name in out.stderr, out


ODD = """
return {
  on_auth = function(request) return "allow" end,
  on_open = function(_, to)
    if to.path then return "forward" end
    return "forward", { via = "none", proxy_protocol = to.port == 2 }
  end,
  on_listen = function(_, bind)
    if bind.port == 7 then return "allow", { host = bind.host } end
    alknet.sleep(0)
    return "allow"
  end,
}
"""


def test_eval_says_what_the_server_would_do(policy, ask):
    policy.write_text(ODD)
    assert ask("--to", "x:1")["answers"][-1]["forward"] == {"host": "x", "port": 1, "via": "none"}
    assert ask("--to", "x:2")["answers"][-1]["forward"] == {"host": "x", "port": 2, "via": "none", "proxy_protocol": True}
    assert "to x port 2 via none with a PROXY header\n" in run("eval", "--policy", policy, "--to", "x:2").stdout
    for words in (["--to", "/run/x.sock"], ["--listen", "localhost:1"]):
        answer = ask(*words)["answers"][-1]
        assert answer["word"] == "deny" and answer["failed"]


def test_a_test_says_what_the_server_would_do(tmp_path):
    (tmp_path / "policy.lua").write_text(ODD)
    (tmp_path / "policy_test.lua").write_text("""
test("forwards", function()
  local word, to, how = policy.on_open({}, { host = "x", port = 2 })
  expect_equal(to.proxy_protocol, true)
  expect_equal(select(2, policy.on_open({}, { host = "x", port = 1 })).proxy_protocol, nil)
  word, to, how = policy.on_open({}, { path = "/run/x" })
  expect_equal(word, "deny")
  expect(how.failed)
end)
test("listeners", function()
  expect_equal(select(2, policy.on_listen({}, { host = "0.0.0.0", port = 7 })).host, "localhost")
  expect_equal(select(2, policy.on_listen({}, { host = "0.0.0.0", port = 7, gateway_ports = true })).host, "0.0.0.0")
  local word, why, how = policy.on_listen({}, { host = "localhost", port = 1 })
  expect_equal(word, "deny")
  expect(how.failed and why:find("waits"))
end)
""")
    out = run("test", tmp_path)
    assert out.returncode == 0 and "# 2 passed" in out.stdout, out


def test_the_flags_of_eval_are_not_of_test(policy):
    out = run("test", "--user", "x", policy)
    assert out.returncode == 2 and "--user: is a flag of policy eval" in out.stderr and out.stdout == ""


def test_the_tests_of_a_directory(tmp_path, policy):
    (tmp_path / "policy_test.lua").write_text('test("links", function() expect_equal(policy.on_link({}), "allow") end)')
    below = tmp_path / "below"
    below.mkdir()
    (below / "other.lua").write_text('return { on_open = function() return "deny" end }')
    (below / "other_test.lua").write_text('test("good", function() end) test("bad", function() expect_equal(policy.on_open({}, {}), "forward") end)')
    out = run("test", tmp_path)
    assert out.returncode == 1 and "# 2 passed, 1 failed" in out.stdout and "not ok 2 - bad" in out.stdout
    assert run("test", policy).returncode == 0
    assert run("test", tmp_path / "policy_test.lua").returncode == 0
    result = json.loads(run("test", "--json", tmp_path).stdout)
    assert json.loads(run("test", tmp_path, "--json").stdout)["failed"] == result["failed"]
    assert (result["passed"], result["failed"], len(result["tests"])) == (2, 1, 3)
    (below / "other_test.lua").write_bytes(b'test("caf\xe9", function() error("\xff", 0) end)')
    last = json.loads(run("test", "--json", tmp_path).stdout)["tests"][0]
    assert (last["test"], last["passed"], last["why"]) == ("caf\\xe9", False, "\\xff")
    (below / "other_test.lua").write_text("x x")
    out = run("test", tmp_path)
    assert out.returncode == 2 and "other_test.lua:1" in out.stderr and "# 1 passed" in out.stdout
    for words in (["test"], ["test", "/nonexistent"], ["test", below / "none"], [], ["frob"]):
        assert run(*words).returncode == 2
