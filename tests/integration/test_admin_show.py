# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the admin socket shows of what runs: config.show, keys.list, policy.eval; and whom it hears."""

import json
import os
import socket
import stat
import subprocess

import pytest

from harness import procs
from harness.procs import AdminClient, AdminError
from harness.waiting import patient, scaled, wait_until


def tool(serving, *words):
    return subprocess.run(
        [procs.alknet_admin(), *map(str, words), "--socket", str(serving.admin)], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=scaled(20), env=procs.environment(), check=False,
    )


def options(serving, **params):
    return {row["option"]: row for row in serving.call("config.show", **params)["options"]}


def test_config_show(server, workers):
    """Each value with where it comes from; passwords and secrets are not shown."""
    serving = server(
        "--max-sessions", "77", workers=workers,
        conf='-- max_channels = 1\nmax_channels = 200,\ntcp = {\n  backlog = 99,\n},\nproxy = "socks5://u:hunter77@127.0.0.1:1",',
    )
    path = serving.argv[serving.argv.index("-c") + 1]
    got = options(serving)
    assert (got["max_sessions"]["value"], got["max_sessions"]["source"]) == (77, "flag")
    assert (got["max_channels"]["value"], got["max_channels"]["source"]) == (200, f"{path}:3")
    assert (got["tcp.backlog"]["value"], got["tcp.backlog"]["source"]) == (99, f"{path}:5")
    assert got["handshake_timeout"] == {"option": "handshake_timeout", "value": 30, "source": "default"}
    assert got["plugin_dir"]["source"] in ("environment", "flag")
    assert got["proxy"]["value"] == "socks5://u:***@127.0.0.1:1" and got["proxy"]["source"] == f"{path}:7"
    assert list(options(serving, name="max_channels")) == ["max_channels"]
    assert set(options(serving, name="tcp")) >= {"tcp.backlog", "tcp.keepalive"}
    with pytest.raises(AdminError) as error:
        serving.call("config.show", name="max_chanels")
    assert error.value.code == -32000
    out = tool(serving, "config.show")
    assert out.returncode == 0 and "hunter77" not in out.stdout and f"{path}:5" in out.stdout
    assert "hunter77" not in tool(serving, "config.show", "--json").stdout
    serving.call("reload")
    assert options(serving)["max_channels"]["source"] == f"{path}:3"


def test_secret_file_is_a_source(server, tmp_path):
    secret = tmp_path / "proxy"
    secret.write_text("http://u:secret@127.0.0.1:1\n")
    secret.chmod(0o600)
    serving = server(conf=f'proxy_file = "{secret}",')
    path = serving.argv[serving.argv.index("-c") + 1]
    assert options(serving)["proxy"] == {"option": "proxy", "value": "http://u:***@127.0.0.1:1", "source": f"{path}:2"}


def test_keys_list(server, keys, tmp_path):
    public = open(keys.path("user") + ".pub").read().split()
    other = procs.make_key(tmp_path / "other")
    file = tmp_path / "authorized"
    file.write_text(
        f'# a comment\n{public[0]} {public[1]} anna@laptop\n\nrestrict,port-forwarding,permitopen="db:5432",from="10.0.0.0/8" '
        + open(f"{other}.pub" if other else tmp_path / "other.pub").read()
    )
    serving = server(authorized=file)
    rows = serving.call("keys.list")["keys"]
    assert [(row["line"], row["file"], row["list"]) for row in rows] == [(2, str(file), "authorized_keys"), (4, str(file), "authorized_keys")]
    assert rows[0]["fingerprint"] == keys.fingerprint("user") and rows[0]["comment"] == "anna@laptop" and rows[0]["options"] == ""
    assert 'permitopen="db:5432"' in rows[1]["options"] and 'from="10.0.0.0/8"' in rows[1]["options"]
    assert keys.fingerprint("user") in tool(serving, "keys.list").stdout


POLICY = """
return {
	on_open = function(session, to)
		if to.host == "slow" then alknet.sleep(0.05) end
		if to.port == 443 or to.host == "slow" then return "forward" end
		return "deny", "only 443"
	end,
}
"""


def test_policy_eval(server, workers):
    serving = server(policy=POLICY, workers=workers)
    answer = serving.call("policy.eval", user="anna", to="example.com:443", **{"from": "192.0.2.1"}, id="anna")
    assert answer["allowed"] and answer["answers"][-1]["word"] == "forward"
    assert answer["answers"][-1]["where"].endswith(".lua:5") and answer["answers"][-1]["elapsed_us"] >= 0
    answer = serving.call("policy.eval", user="anna", to="example.com:80", id="anna")
    assert not answer["allowed"] and answer["answers"][-1]["reason"] == "only 443"
    assert serving.call("policy.eval", user="anna", to="slow:1", id="anna")["allowed"], "one that waits"
    answer = serving.call("policy.eval", user="a", to="x:443", id="a", question="on_open")
    assert [one["question"] for one in answer["answers"]] == ["on_open"]
    for params in ({"to": "nonsense"}, {"from": "nowhere", "to": "x:1"}, {"key": "ssh-ed25519 AAAA", "to": "x:1"}):
        with pytest.raises(AdminError) as error:
            serving.call("policy.eval", **params)
        assert error.value.code == -32000
    with pytest.raises(AdminError) as error:
        serving.call("policy.eval", to=5)
    assert error.value.code == -32602
    out = tool(serving, "policy.eval", "user=anna", "to=example.com:443", "id=anna")
    assert out.returncode == 0 and "forward" in out.stdout, out


def as_user(uid, path):
    code = (
        "import os,socket,sys\nos.setgroups([]); os.setgid(65534); os.setuid(int(sys.argv[1]))\ns=socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[2])\ns.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\\n'); print(s.recv(4096))\n"
    )
    return subprocess.run(
        ["/usr/bin/python3", "-c", code, str(uid), str(path)], capture_output=True, text=True, timeout=patient(10), check=False
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_t64_admin_users(server):
    """Who is named may come in, by name or number; the kernel says who it is; a reload changes it."""
    serving = server(conf='admin_users = { "nobody", "54321" },')
    for directory in list(serving.admin.parents)[:-1]:
        if not os.stat(directory).st_mode & 0o001:
            os.chmod(directory, os.stat(directory).st_mode | 0o001)
    assert stat.S_IMODE(serving.admin.stat().st_mode) == 0o666
    assert "result" in as_user(65534, serving.admin).stdout
    assert "result" in as_user(54321, serving.admin).stdout
    assert "result" not in as_user(54322, serving.admin).stdout
    serving.wait_log("admin client refused.*uid=54322")
    path = serving.argv[serving.argv.index("-c") + 1]
    with open(path, "w") as out:
        out.write("return {}\n")
    serving.call("reload")
    assert stat.S_IMODE(serving.admin.stat().st_mode) == 0o600
    assert "result" not in as_user(54321, serving.admin).stdout


def test_admin_users_wrong(server):
    serving = server(conf='admin_users = { "no such user" },', wait=False)
    serving.expected_status = 2
    assert serving.wait() == 2 and "admin_users: there is no account no such user" in serving.log()


# Bad input is bounded


def raw(serving):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(scaled(20))
    sock.connect(str(serving.admin))
    return sock


def test_t64_bad_clients_are_bounded(server):
    """1000 clients, lines that never end, half lines, one that does not read: memory stays, others are served."""
    serving = server()
    serving.call("status")
    before = procs.memory(serving.pid)
    crowd = []
    try:
        for number in range(1000):
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(str(serving.admin))
                sock.send(b'{"jsonrpc":"2.0","id":1,' if number % 2 else b"x" * 4000)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                pass
            crowd.append(sock)
        for sock in crowd[:900]:
            sock.close()
        crowd = crowd[900:]
        wait_until(lambda: _answers(serving), 20, "an answer beside the crowd")
    finally:
        for sock in crowd:
            sock.close()
    with raw(serving) as deaf:
        deaf.setblocking(False)
        request = b'{"jsonrpc":"2.0","id":1,"method":"config.show"}\n' * 100
        for _ in range(200):
            try:
                deaf.send(request)
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                break
        for _ in range(20):
            serving.call("status")
    assert procs.memory(serving.pid) - before < 64 << 20


def _answers(serving):
    try:
        with AdminClient(serving.admin, 5) as client:
            return client.call("status")
    except (AdminError, OSError, EOFError, ValueError):
        return None


def test_line_of_64_kib(server):
    """The longest line is answered; one byte more is an error and the end."""
    serving = server()
    line = b'{"jsonrpc":"2.0","id":1,"method":"status"}'
    with raw(serving) as sock:
        sock.sendall(line + b" " * (65536 - len(line)) + b"\n")
        with sock.makefile("rb") as reader:
            assert "result" in json.loads(reader.readline())
            sock.sendall(line + b" " * (65537 - len(line)))
            assert json.loads(reader.readline())["error"]["code"] == -32600
            assert reader.readline() == b""


@pytest.mark.parametrize("line, code, says", [
    (b"{", -32700, "JSON"), (b"[]", -32600, "batch"), (b'{"jsonrpc":"2.0","id":1}', -32600, "method"),
    (b'{"jsonrpc":"2.0","id":1,"method":"session.lst"}', -32601, "did you mean session.list"),
    (b'{"jsonrpc":"2.0","id":1,"method":"session.kill"}', -32602, "id is missing"),
    (b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":1}}', -32602, '"x"'),
    (b'{"jsonrpc":"2.0","id":1,"method":"session.kill","params":{"id":"1"}}', -32602, "whole number"),
])
def test_codes(server, line, code, says):
    with raw(server()) as sock:
        sock.sendall(line[:5])
        sock.sendall(line[5:] + b"\n")
        with sock.makefile("rb") as reader:
            error = json.loads(reader.readline())["error"]
    assert error["code"] == code and says in error["message"], error
