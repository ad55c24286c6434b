# SPDX-License-Identifier: MIT OR Apache-2.0
"""Proxies on the way out: `serve --proxy`, `connect --proxy`, a policy's `via`, against real ones."""

import getpass
import os
import socket
import subprocess

import pytest

from harness import net, procs, proxies
from harness.waiting import patient, scaled, wait_until


@pytest.fixture
def microsocks(tmp_path, running_programs):
    program = proxies.microsocks(tmp_path)
    running_programs.append(program)
    return program


@pytest.fixture
def tinyproxy(tmp_path, running_programs):
    program = proxies.tinyproxy(tmp_path)
    running_programs.append(program)
    return program


def private(path, text):
    path.write_text(text)
    os.chmod(path, 0o600)
    return path


def asks(tunnel, port, host="127.0.0.1", kind="name"):
    with net.socks_connect(tunnel.port, host, port, kind=kind) as sock:
        net.ask_echo(sock)


def refused(tunnel, port, host="127.0.0.1"):
    with pytest.raises(net.ProxyRefused) as error:
        net.socks_connect(tunnel.port, host, port).close()
    return error.value.code


@pytest.mark.parametrize("kind", ["v4", "name"])
def test_serve_through_microsocks(server, client, targets, microsocks, workers, kind):
    serving = server("--proxy", f"socks5://127.0.0.1:{microsocks.port}", workers=workers)
    tunnel = client(serving)
    asks(tunnel, targets.echo, "127.0.0.1" if kind == "v4" else "localhost", kind)
    assert microsocks.lines("127.0.0.1"), "the proxy has seen it"
    assert refused(tunnel, targets.refused) == 5, "what the proxy says of the target is said on"


def test_serve_through_tinyproxy(server, client, targets, tinyproxy, tmp_path):
    serving = server("--proxy", f"http://127.0.0.1:{tinyproxy.port}")
    tunnel = client(serving)
    asks(tunnel, targets.echo)
    wait_until(lambda: f"CONNECT 127.0.0.1:{targets.echo}" in (tmp_path / "tinyproxy.txt").read_text(), 10, "the request in its log")
    assert refused(tunnel, targets.refused) in (1, 4)


def test_serve_through_dante(server, client, targets, tmp_path, running_programs):
    """Rules: what it does not allow is a denial for the application too."""
    rules = (
        "client pass { from: 0/0 to: 0/0 }\n"
        f"socks pass {{ from: 0/0 to: 127.0.0.1/32 port = {targets.echo} }}\nsocks block {{ from: 0/0 to: 0/0 }}"
    )
    proxy = proxies.danted(tmp_path, rules)
    running_programs.append(proxy)
    tunnel = client(server("--proxy", f"socks5://127.0.0.1:{proxy.port}"))
    asks(tunnel, targets.echo)
    assert refused(tunnel, targets.sink) in (1, 2)


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_login(server, client, targets, tmp_path, running_programs, kind):
    """The password stands in a file of its own; a wrong one is logged and refused."""
    password = {"socks5": "s@cret", "http": "secret"}[kind]
    proxy = proxies.microsocks(tmp_path, "anna", password) if kind == "socks5" else proxies.tinyproxy(tmp_path, ("anna", password))
    running_programs.append(proxy)
    secret = private(tmp_path / "proxy", f"{kind}://anna:{password.replace('@', '%40')}@127.0.0.1:{proxy.port}\n")
    serving = server(conf=f'proxy_file = "{secret}",')
    asks(client(serving), targets.echo)
    wrong = server(conf=f'proxy = "{kind}://anna:wrong@127.0.0.1:{proxy.port}",')
    assert refused(client(wrong), targets.echo) == 1
    wrong.wait_log("proxy failed.*refused the user name or the password")
    for serving in (serving, wrong):
        assert "cret" not in serving.log() and "wrong@" not in serving.log()


def test_connect_through_microsocks(server, client, targets, microsocks):
    """The session runs through it; what the session carries does not."""
    serving = server()
    tunnel = client(serving, "--proxy", f"socks5://127.0.0.1:{microsocks.port}")
    asks(tunnel, targets.echo)
    assert len(microsocks.lines("connected to")) == 1
    assert str(targets.echo) not in microsocks.log()


def test_connect_through_tinyproxy_to_sshd(sshd, client, targets, tinyproxy):
    tunnel = client(sshd(), "--proxy", f"http://localhost:{tinyproxy.port}", user=getpass.getuser())
    asks(tunnel, targets.echo)


def test_connect_through_a_proxy_that_is_not_there(client, targets):
    tunnel = client(1, "--proxy", f"socks5://127.0.0.1:{targets.refused}", known=False, wait=False)
    tunnel.expected_status = None
    tunnel.wait_log("the proxy cannot be reached.*refused")


def test_a_proxy_that_hangs(client):
    """It takes the connection and says nothing: a sentence after the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        tunnel = client(1, "--proxy", f"socks5://127.0.0.1:{port}", "--connect-timeout", "1", known=False, wait=False)
        tunnel.expected_status = None
        tunnel.wait_log("the proxy did not answer in 1 s")


def test_connect_with_a_wrong_password(client, tmp_path, running_programs, targets):
    """Of the first connection: a sentence, and the end."""
    for kind, proxy in (("socks5", proxies.microsocks(tmp_path, "anna", "right")), ("http", proxies.tinyproxy(tmp_path, ("anna", "right")))):
        running_programs.append(proxy)
        conf = private(tmp_path / f"{kind}.conf", f'return {{ proxy = "{kind}://anna:wr0ng@127.0.0.1:{proxy.port}" }}')
        tunnel = client(targets.echo, "-c", conf, known=False, wait=False)
        tunnel.expected_status = 1
        tunnel.wait_log("refused the user name or the password")
        assert tunnel.wait() == 1 and "wr0ng" not in tunnel.log()


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_serve_through_a_proxy_that_hangs(server, client, kind):
    """The open fails at the deadline, as a timeout; the log says who hung."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        serving = server("--proxy", f"{kind}://127.0.0.1:{silent.getsockname()[1]}", "--connect-timeout", "1")
        assert refused(client(serving), 80) == 6
        serving.wait_log("proxy failed.*the proxy did not answer in 1 s")


@pytest.mark.parametrize("bind, there", [("127.0.0.3", True), ("192.0.2.77", False)])
def test_bind(server, client, bind, there):
    """A policy chooses the address that a connection comes from; one that is not this machine's is a failure."""
    policy = f"return {{ on_open = function() return 'forward', {{ bind = '{bind}' }} end }}"
    tunnel = client(server(policy=policy))
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(scaled(20))
        port = target.getsockname()[1]
        if not there:
            assert refused(tunnel, port) == 1
            return
        with net.socks_connect(tunnel.port, "127.0.0.1", port):
            peer, (address, _) = target.accept()
            peer.close()
            assert address == bind


def test_via(server, client, targets, microsocks, tinyproxy):
    """A policy chooses the proxy for one destination, and none for another."""
    policy = f"""
    local via = {{ ["localhost"] = "socks5://127.0.0.1:{microsocks.port}", ["127.0.0.1"] = "none" }}
    return {{ on_open = function(session, to) return "forward", {{ via = via[to.host] }} end }}
    """
    tunnel = client(server("--proxy", f"http://127.0.0.1:{tinyproxy.port}", policy=policy))
    asks(tunnel, targets.echo, "localhost")
    assert len(microsocks.lines("connected to")) == 1
    tinyproxy.kill()
    asks(tunnel, targets.echo, "127.0.0.1")
    assert len(microsocks.lines("connected to")) == 1


@pytest.mark.parametrize("url, says", [
    ("socks5://u:secret@127.0.0.1:1", "proxy_file"), ("socks4://127.0.0.1:1", "must be socks5://"), ("http://127.0.0.1", "HOST:PORT"),
    ("u:secret@h:1", "proxy_file"),
])
@pytest.mark.parametrize("command", ["serve", "connect"])
def test_bad_urls(keys, command, url, says):
    """A password on the command line is refused, and not said again."""
    common = {
        "serve": ["--key", keys.path("host"), "--authorized-keys", str(keys.authorized), "--listen", "127.0.0.1:0", "--admin-socket", "none"],
        "connect": ["--server", "127.0.0.1:1", "--identity", keys.path("user")],
    }[command]
    out = subprocess.run(
        [procs.alknet(), command, *common, "--proxy", url], capture_output=True, text=True, timeout=patient(10), env=procs.environment(), check=False
    )
    assert out.returncode == 2 and "--proxy" in out.stderr and says in out.stderr, out
    assert "secret" not in out.stderr and len(out.stderr.splitlines()) == 1
