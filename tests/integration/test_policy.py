# SPDX-License-Identifier: MIT OR Apache-2.0
"""The policy in the real program: its words, and scripts that mean harm (THREATS 65, 66)."""

import re
import time

import pytest

from harness import net, sshwire
from harness.waiting import patient, scaled, wait_until

ECHO_ONLY = """
  on_open = function(session, destination)
    if destination.port == %d then return "forward" end
    %s
  end,
"""


def script(body):
    return "return {\n" + body + "\n}\n"


@pytest.fixture
def login(keys):
    wires = []

    def connect(serving, user="tester", key="user"):
        wire = sshwire.Wire(serving.port)
        wires.append(wire)
        return wire.login(sshwire.load_key(keys.path(key)), user)

    yield connect
    for wire in wires:
        wire.close()


def echoes(wire, host, port, number=1):
    opened = wire.open_channel(number, host, port)
    assert opened, "the open failed"
    wire.data(opened[0], b"through")
    assert wire.read(7) == b"through"


def test_shipped_policy(server, login, targets):
    """scripts/policy.lua does what a plain server does."""
    from harness.procs import ROOT

    serving = server("--policy", ROOT / "scripts" / "policy.lua")
    wire = login(serving)
    echoes(wire, "127.0.0.1", targets.echo)
    assert wire.open_channel(2, "alknet-nothing", 0) is None


def test_deny(server, login, targets):
    serving = server(policy=script(ECHO_ONLY % (targets.echo, 'return "deny", "not today"')))
    wire = login(serving)
    before = targets.stat("accepted", "sink")
    assert wire.open_channel(1, "127.0.0.1", targets.sink) is None
    assert wire.failure == 1, "administratively prohibited"
    assert targets.stat("accepted", "sink") == before, "nothing was connected"
    echoes(wire, "127.0.0.1", targets.echo)
    assert serving.metric("alknet_policy_denied_total") >= 1


def test_the_socks_reply_of_a_denial(server, client, targets):
    serving = server(policy=script(ECHO_ONLY % (targets.echo, 'return "deny", "not today"')))
    connecting = client(serving)
    with pytest.raises(net.ProxyRefused) as refused:
        net.socks_connect(connecting.port, "127.0.0.1", targets.sink)
    assert refused.value.code == 2
    with pytest.raises(net.ProxyRefused) as refused:
        net.http_connect(connecting.port, "127.0.0.1", targets.sink)
    assert refused.value.code == 403


def test_forward_elsewhere(server, login, targets):
    body = f'on_open = function(s, d) if d.host == "db.internal" then return "forward", {{ host = "127.0.0.1", port = {targets.echo} }} end end'
    wire = login(server(policy=script(body)))
    echoes(wire, "db.internal", 5432)
    assert wire.open_channel(2, "127.0.0.1", targets.echo) is None, "nil denies"


def test_forward_to_a_unix_path(server, login, targets):
    body = f'on_open = function(s, d) if d.host == "sock" then return "forward", {{ path = "{targets.unix}" }} end return "deny" end'
    echoes(login(server(policy=script(body))), "sock", 1)


def test_service_unknown(server, login, targets):
    """A service that is not there: refused; a plugin's name is not a path."""
    for name in ("nothing", "tcp", "../forward", "", "forward" * 20):
        serving = server(policy=script(ECHO_ONLY % (targets.echo, f'return "service", "{name}"')))
        wire = login(serving)
        assert wire.open_channel(1, "alknet-x", 0) is None
        echoes(wire, "127.0.0.1", targets.echo)


def test_service_forward_by_name(server, login, targets):
    wire = login(server(policy=script('on_open = function() return "service", "forward" end')))
    echoes(wire, "127.0.0.1", targets.echo)


def test_on_auth_alone_lets_in(server, login, keys, targets):
    """on_auth allow with no authorized keys at all; what it knows is right."""
    print_ = keys.fingerprint("stranger")
    body = f"""
      on_auth = function(request)
        if request.user == "guest" and request.key_fingerprint == "{print_}" and request.key_type == "ssh-ed25519" then
          return "allow", {{ id = "visitor", scopes = {{ "a", "b" }} }}
        end
        return "deny", "who?"
      end,
      on_open = function(session, destination)
        if session.identity.id == "visitor" then return "forward" end
        return "deny"
      end,
    """
    serving = server(policy=script(body), authorized=False)
    echoes(login(serving, "guest", "stranger"), "127.0.0.1", targets.echo)
    for user, key in (("guest", "user"), ("other", "stranger")):
        with pytest.raises((PermissionError, sshwire.Closed)):
            login(serving, user, key)


def test_on_auth_pass_and_deny(server, login, targets):
    body = 'on_auth = function(request) if request.user == "banned" then return "deny", "no" end return "pass" end'
    serving = server(policy=script(body))
    echoes(login(serving), "127.0.0.1", targets.echo)
    with pytest.raises((PermissionError, sshwire.Closed)):
        login(serving, "banned")
    with pytest.raises((PermissionError, sshwire.Closed)):
        login(serving, "tester", "stranger")


def test_on_auth_is_not_asked_to_trust_a_claim(server, keys):
    """A bad signature is no proof: on_auth's allow does not help it."""
    serving = server("--handshake-timeout", "20", policy=script('on_auth = function() return "allow", { id = "x" } end'), authorized=False)
    with sshwire.Wire(serving.port) as wire:
        wire.service()
        wire.auth_request("tester", sshwire.load_key(keys.path("user")), spoil=True)
        wire.open_request(1, "127.0.0.1", 1)  # so that it need not wait for the deadline: who is not in is cut for it
        with pytest.raises(sshwire.Closed):
            while wire.recv()[0] != sshwire.AUTH_SUCCESS:
                pass
            raise AssertionError("in without a signature")
    assert not serving.lines("result=accept")


def test_on_link_deny(server, login, targets):
    serving = server(policy=script('on_link = function(link) if link.transport == "tcp" then return "deny", "closed" end return "allow" end'))
    with pytest.raises(sshwire.Closed):
        login(serving)
    wait_until(lambda: serving.lines("connection closed"), 10, "the connection to be closed")


def test_on_close(server, login):
    body = 'on_close = function(session, stats) alknet.log("warn", "bye " .. session.user .. " " .. math.type(stats.duration)) end'
    serving = server(policy=script(body))
    login(serving).close()
    serving.wait_log("bye tester float")


HOSTILE = {
    "loop": "while true do end",
    "pcall-loop": "while true do pcall(function() while true do end end) end",
    "coroutine": "local f f = function() return coroutine.wrap(f)() end return f()",
    "table": "local t = {} for i = 1, 1e9 do t[i] = i end",
    "string": "return (('x'):rep(1 << 30))",
    "recursion": "local function f() return 1 + f() end return f()",
    "pattern": "return (('a'):rep(200)):find((('a*'):rep(30)) .. 'b')",
    "error-nil": "error(nil)",
    "error-table": "error({})",
    "error-string": "error('x')",
    "os": "return os.exit(0)",
    "io": "return io.open('/etc/passwd'):read()",
    "require": "return require('os')",
    "load": "return load('return 1')()",
    "debug": "return debug.getregistry()",
    "number": "return 1",
    "true": "return true",
    "nil": "return nil",
    "word": "return 'Forward'",
    "nothing": "",
    "forward-nonsense": "return 'forward', { host = {}, port = 'x' }",
    "forward-port": "return 'forward', { host = '127.0.0.1', port = 70000 }",
    "forward-number": "return 'forward', 7",
    "yield": "coroutine.yield() return 'forward'",
    "yield-forever": "while true do coroutine.yield() end",
    "gc": "setmetatable({}, { __gc = function() while true do end end }) collectgarbage() while true do end",
    "string-metatable": "getmetatable('').__index = nil return 'forward'",
    "poison": "alknet.log = nil string.rep = nil return 'forward'",
    "sort": "local t = {} for i = 1, 200000 do t[i] = i end table.sort(t, function() return true end)",
    "format": "return string.format('%99999999d', 1)",
    "concat": "local s = 'x' while true do s = s .. s end",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_t65_t66_hostile_script(server, login, targets, name):
    """Denied within its budget; the session, its channels and the other sessions go on."""
    serving = server(policy=script(ECHO_ONLY % (targets.echo, HOSTILE[name])))
    wire, other = login(serving), login(serving)
    echoes(other, "127.0.0.1", targets.echo)
    start = time.monotonic()
    assert wire.open_channel(1, "evil", 7) is None
    # 20 ms a resume, 5 s in all for one that yields and is never resumed.
    assert time.monotonic() - start < patient(5)
    echoes(wire, "127.0.0.1", targets.echo, 2)
    echoes(other, "127.0.0.1", targets.echo, 3)
    assert serving.metric("alknet_policy_denied_total") >= 1


def test_t66_errors_are_logged_once_a_second(server, login, targets):
    serving = server(policy=script(ECHO_ONLY % (targets.echo, "error('broken')")))
    wire = login(serving)
    start = time.monotonic()
    for n in range(300):
        assert wire.open_channel(n, "evil", 7) is None
    seconds = time.monotonic() - start
    lines = serving.lines("policy failed")
    assert 1 <= len(lines) <= seconds + 2, f"{len(lines)} lines in {seconds:.1f} s"
    assert re.search(r"policy\d+\.lua:\d+", lines[0]) and "broken" in lines[0]
    assert serving.metric("alknet_policy_errors_total") == 300


def test_hostile_on_link_and_on_auth(server, login):
    for body in ("on_link = function() while true do end end", "on_link = function() error({}) end", "on_auth = function() while true do end end", "on_auth = function() return true end"):
        serving = server(policy=script(body))
        with pytest.raises((sshwire.Closed, PermissionError)):
            login(serving)
        assert serving.call("status")


def test_long_names_reach_lua_cut(server, login, targets):
    """What a peer says is at most 255 bytes in Lua; a longer host is never half believed."""
    body = 'on_open = function(s, d) if #d.host > 255 then error("long") end return "forward", { host = "127.0.0.1", port = %d } end' % targets.echo
    wire = login(server(policy=script(body)))
    echoes(wire, "h" * 255, 80)
    assert wire.open_channel(2, "h" * 4000, 80) is None
    assert wire.is_alive()


def test_policy_of_bytecode_or_wrong_shape(server, keys, tmp_path):
    """Refused at start: status 2 and the place."""
    import subprocess

    from harness import procs

    latin_1 = (b'return "caf\xe9" here', b'error("caf\xe9")')  # the reason quotes it
    for text in (b"\x1bLua\x54\x00", *latin_1, b"return 5", b"return { on_open = 5 }", b"return {", b"return { on_opne = function() end }"):
        path = tmp_path / "bad.lua"
        path.write_bytes(text)
        argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", str(keys.authorized), "--listen", "127.0.0.1:0"]
        out = subprocess.run(
            [*argv, "--admin-socket", "none", "--policy", str(path)], capture_output=True, text=True, timeout=patient(10),
            env=procs.environment(), check=False,
        )
        assert out.returncode == 2, (text, out)
        assert "bad.lua" in out.stderr and len(out.stderr.strip().splitlines()) == 1, out.stderr
