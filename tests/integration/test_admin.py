# SPDX-License-Identifier: MIT OR Apache-2.0
"""The admin socket and alknet-admin (THREATS 64)."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness import net, procs, sshwire
from harness.procs import AdminClient, AdminError
from harness.waiting import patient, scaled, wait_until

COMMANDS = [
    "status", "session.list", "session.show", "session.kill", "channel.list", "channel.close", "listener.list", "plugin.list",
    "drain", "shutdown", "log.level", "metrics", "watch",
]


def admin(serving, *words):
    """alknet-admin WORDS --socket ..., asked again as Alknet.call does."""
    for _ in range(3):
        out = subprocess.run(
            [procs.alknet_admin(), *map(str, words), "--socket", str(serving.admin)], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=patient(20), env=procs.environment(), check=False,
        )
        if words[0] not in procs.ASKED_AGAIN or (procs.LATE not in out.stderr and "incomplete" not in out.stdout):
            break
    return out


def rows(answer):
    """The list in an answer that is a list or holds one."""
    if isinstance(answer, list):
        return answer
    lists = [value for value in answer.values() if isinstance(value, list)]
    assert len(lists) == 1, answer
    return lists[0]


def test_status(server, workers):
    status = server(workers=workers).call("status")
    assert "version" in status and "pid" in json.dumps(status)


def test_sessions_and_channels(server, login, targets, keys, workers):
    """Listed, shown, closed and killed, one at a time."""
    serving = server(workers=workers)
    first, second = login(serving, "anna"), login(serving, "bert")
    channel, _ = first.open_channel(1, "127.0.0.1", targets.echo)
    sessions = rows(serving.call("session.list"))
    assert {s["user"] for s in sessions} == {"anna", "bert"}
    assert all(s["remote_addr"] == "127.0.0.1" for s in sessions)
    anna = next(s for s in sessions if s["user"] == "anna")
    shown = serving.call("session.show", id=anna["id"])
    assert keys.fingerprint("user") in json.dumps(shown)
    channels = rows(serving.call("channel.list"))
    assert len(channels) == 1
    assert str(channels[0]["session"]) == str(anna["id"])
    serving.call("channel.close", session=anna["id"], id=channels[0]["id"])
    first.expect(sshwire.CLOSE)
    first.send(bytes([sshwire.CLOSE]) + sshwire.u32(channel))
    wait_until(lambda: not rows(serving.call("channel.list")), 10, "the channel to be gone")
    assert first.open_channel(2, "127.0.0.1", targets.echo), "the session lives"
    serving.call("session.kill", id=anna["id"])
    first.wait_closed()
    wait_until(lambda: len(rows(serving.call("session.list"))) == 1, 10, "the session to be gone")
    assert second.is_alive()


def test_a_session_that_is_ended_looks_cut_off(server, keys, targets):
    """Its channels get no EOF, which would make a part of a transfer look like the whole, and the peer hears why."""
    serving = server()
    with sshwire.Wire(serving.port).login(sshwire.load_key(keys.path("user"))) as wire:
        channel, _ = wire.open_channel(0, "127.0.0.1", targets.echo)
        wire.data(channel, b"half of it")
        assert wire.read(10) == b"half of it"
        serving.call("session.kill", id=rows(serving.call("session.list"))[0]["id"])
        with pytest.raises(sshwire.Closed, match="ended by the operator"):
            while True:
                assert wire.recv()[0] not in (sshwire.EOF, sshwire.CLOSE)


@pytest.mark.parametrize("method", ["session.show", "session.kill"])
def test_no_such_session(server, method):
    with pytest.raises(AdminError) as error:
        server().call(method, id=2**31 - 1)
    assert error.value.code == -32000
    with pytest.raises(AdminError):
        server().call("channel.close", session=1, id=1)


def test_listeners_and_plugins(server):
    serving = server(workers=1)
    listeners = serving.call("listener.list")["listeners"]
    assert [(one["transport"], one["address"]) for one in listeners] == [("tcp", f"127.0.0.1:{serving.port}")]
    plugins = rows(serving.call("plugin.list"))
    assert {"tcp", "forward"} <= {one["name"] for one in plugins}
    assert all(one["version"] for one in plugins)


def test_log_level(server):
    serving = server()
    serving.call("log.level", level="error")
    with net.connect(serving.port) as sock:
        net.recv_exact(sock, 4)
    wait_until(lambda: serving.metric("alknet_sessions") == 0, 10, "the connection to be gone")
    assert not serving.lines("connection opened")
    serving.call("log.level", level="info")
    with net.connect(serving.port) as sock:
        net.recv_exact(sock, 4)
    serving.wait_log("connection opened")
    with pytest.raises(AdminError) as error:
        serving.call("log.level", level="loud")
    assert error.value.code in (-32602, -32000)


def test_metrics(server, login, targets):
    """Prometheus text: HELP and TYPE for each, counters that count, no label for a destination."""
    serving = server(workers=2)
    wire = login(serving)
    assert wire.open_channel(1, "127.0.0.1", targets.echo)
    assert wire.open_channel(2, "127.0.0.1", targets.refused) is None
    answer = serving.call("metrics")
    text = answer if isinstance(answer, str) else answer["text"]
    names = set(re.findall(r"^([a-z_]+)(?:\{.*\})? [0-9.e+]+$", text, re.M))
    assert names and all(name.startswith("alknet_") for name in names)
    for name in names:
        name = re.sub(r"_seconds_(sum|count|bucket)$", "_seconds", name)
        assert f"# HELP {name} " in text and f"# TYPE {name} " in text
    assert serving.metric("alknet_channels_total") == 2
    assert serving.metric("alknet_channels_refused_total") == 1
    assert serving.metric("alknet_channels") == 1
    assert serving.metric("alknet_sessions_authenticated") == 1
    assert serving.metric("alknet_auth_accepted_total") == 1
    assert str(targets.echo) not in text and str(targets.refused) not in text


def test_counters_survive_a_worker(server, login):
    """A counter never goes back when a worker dies; a gauge forgets what died with it."""
    serving = server(workers=1)
    login(serving)
    assert serving.metric("alknet_sessions_total") == 1
    old = serving.workers()[0]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: serving.workers() and old not in serving.workers(), 10, "a new worker")
    assert serving.metric("alknet_sessions_total") == 1
    wait_until(lambda: serving.metric("alknet_sessions") == 0, 10, "the dead one's session to be forgotten")


def test_watch(server, login, targets):
    """Events of sessions, channels and logins as they happen; a second watcher sees them too."""
    serving = server(workers=2)
    with AdminClient(serving.admin) as one, AdminClient(serving.admin) as two:
        one.request("watch")
        two.request("watch")
        serving.call("status")
        wire = login(serving, "watched")
        wire.open_channel(1, "127.0.0.1", targets.echo)
        wire.close()
        for watcher in (one, two):
            seen = []
            while "session.close" not in seen:
                message = watcher.read()
                assert message is not None
                if "method" in message:
                    seen.append(message["params"]["event"])
            assert "session.open" in seen or "auth" in seen
            assert "channel.open" in seen and seen[-1] == "session.close"
    serving.call("status")


def test_watchers_that_do_not_read(server, login, targets):
    """They are dropped at a bound; nobody waits for them."""
    serving = server(workers=1)
    deaf = [AdminClient(serving.admin) for _ in range(5)]
    for watcher in deaf:
        watcher.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        watcher.request("watch")
    wire = login(serving)
    before = serving.memory()
    for n in range(1500):
        wire.open_channel(n, "alknet-nothing", 1)
    assert serving.memory() - before < 16 << 20
    assert serving.call("status")
    for watcher in deaf:
        watcher.__exit__()


def test_drain(server, login, targets):
    """New connections are not taken, the last session's end ends the server."""
    serving = server(workers=2)
    wire = login(serving)
    channel, _ = wire.open_channel(1, "127.0.0.1", targets.echo)
    serving.call("drain")

    def closed_to_new():
        try:
            with socket.create_connection(("127.0.0.1", serving.port), 1) as sock:
                sock.settimeout(0.5)
                return sock.recv(4) != b"SSH-"
        except OSError:
            return True

    wait_until(closed_to_new, 10, "the door to be closed")
    wire.data(channel, b"still here")
    assert wire.read(10) == b"still here"
    assert serving.running()
    wire.close()
    assert serving.wait(10) == 0


def test_shutdown(server, login):
    serving = server(workers=2)
    wire = login(serving)
    serving.call("shutdown")
    wire.wait_closed()
    assert serving.wait(5) == 0
    assert not serving.admin.exists()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"garbage", -32700),
        (b"{", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"status"', -32700),
        (b"\xff\xfe\x00", -32700),
        (b"[" * 3000, -32700),
        (b"[]", -32600),
        (b"7", (-32600, -32700)),
        (b"{}", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"status"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"status"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"status","method":"status"}', (-32600, -32700)),
        (b'{"jsonrpc":"2.0","id":1,"method":"nonsense"}', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"session.kill"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"session.kill","params":{"id":"x"}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"session.kill","params":[1]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"extra":1}}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"log.level","params":{"level":"' + b"x" * 5000 + b'"}}', (-32602, -32000)),
    ],
)
def test_bad_requests(server, line, code):
    """Each gets its JSON-RPC error; the socket goes on for others, and for this client where a line was one."""
    serving = server()
    with AdminClient(serving.admin) as client:
        client.send_line(line)
        answer = client.read()
        assert answer["error"]["code"] in (code if isinstance(code, tuple) else (code,)), answer
        assert answer["error"]["message"]
    assert serving.call("status")


def test_notification_is_not_answered(server):
    with AdminClient(server().admin) as client:
        client.send_line(b'{"jsonrpc":"2.0","method":"status"}')
        assert client.call("status")


def test_request_id_comes_back(server):
    with AdminClient(server().admin) as client:
        for ident in ('"abc"', "12", "null"):
            client.send_line(b'{"jsonrpc":"2.0","id":%s,"method":"nonsense"}' % ident.encode())
            assert json.dumps(client.read()["id"]) == ident


def test_long_lines(server):
    """64 KiB is the end of a line: a longer one is refused without being kept."""
    serving = server()
    with AdminClient(serving.admin) as client:
        pad = b" " * (65536 - 60)
        client.send_line(b'{"jsonrpc":"2.0","id":1,' + pad + b'"method":"status"}')
        assert "result" in client.read()
    before = serving.memory()
    with AdminClient(serving.admin) as client:
        try:
            for _ in range(400):
                client.sock.sendall(b"x" * 65536)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert serving.memory() - before < 4 << 20
    assert serving.call("status")


def test_100_clients_byte_by_byte(server):
    serving = server(workers=1)
    clients = [AdminClient(serving.admin) for _ in range(100)]
    line = b'{"jsonrpc":"2.0","id":5,"method":"status"}\n'
    for byte in line:
        for client in clients:
            client.sock.sendall(bytes([byte]))
    for client in clients:
        assert client.read()["id"] == 5
        client.__exit__()
    if os.geteuid() == 0:
        wait_until(lambda: len(procs.open_files(serving.pid)) < 100, 10, "the clients' descriptors to be closed")


def test_many_requests_at_once(server):
    """Pipelined, some answered by workers: each gets its own answer."""
    with AdminClient(server(workers=2).admin) as client:
        numbers = [client.request(("status", "session.list", "metrics", "channel.list")[n % 4]) for n in range(200)]
        assert sorted(client.read()["id"] for _ in numbers) == numbers


def test_client_that_leaves_before_the_answer(server):
    serving = server(workers=2)
    for _ in range(100):
        with AdminClient(serving.admin) as client:
            client.request("session.list")
    assert serving.call("session.list") is not None


def test_t64_socket_mode(server):
    """0600, whatever the umask; in a directory of its own when that had to be made."""
    serving = server()
    mode = serving.admin.stat()
    assert stat.S_ISSOCK(mode.st_mode) and stat.S_IMODE(mode.st_mode) == 0o600


def test_t64_umask(server, tmp_path):
    serving = server(wrap=["sh", "-c", 'umask 0; exec "$@"', "sh"])
    assert stat.S_IMODE(serving.admin.stat().st_mode) == 0o600


def test_t64_directory_is_made(server, tmp_path):
    path = tmp_path / "run" / "alknet" / "admin.sock"
    path.parent.parent.mkdir()
    serving = server("--admin-socket", path, wait=True)
    serving.admin = path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert serving.call("status")


def test_t64_stale_socket_is_replaced(server, tmp_path):
    path = tmp_path / "admin0.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert server().call("status")


def test_t64_live_socket_is_kept(server, keys):
    """A second server on the same socket does not start, and the first one still answers."""
    serving = server()
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", str(keys.authorized), "--listen", "127.0.0.1:0"]
    out = subprocess.run(
        [*argv, "--admin-socket", str(serving.admin)], capture_output=True, text=True, timeout=patient(10), env=procs.environment(), check=False
    )
    assert out.returncode == 2 and str(serving.admin) in out.stderr, out
    assert serving.call("status")


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_t64_what_is_no_socket_is_not_removed(keys, tmp_path, kind):
    path, other = tmp_path / "admin.sock", tmp_path / "other"
    other.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "link":
        path.symlink_to(other)
    else:
        path.mkdir()
    argv = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", str(keys.authorized), "--listen", "127.0.0.1:0"]
    out = subprocess.run([*argv, "--admin-socket", str(path)], capture_output=True, text=True, timeout=patient(10), env=procs.environment(), check=False)
    assert out.returncode == 2 and str(path) in out.stderr, out
    assert path.is_symlink() or path.exists()
    assert other.read_text() == "precious"


def test_t64_other_users(server):
    """uid 0 and the owner only, even where the file's mode was opened."""
    if os.geteuid() != 0:
        pytest.skip("only root can try as somebody else")
    serving = server()
    os.chmod(serving.admin, 0o666)
    for directory in list(serving.admin.parents)[:-1]:
        if not os.stat(directory).st_mode & 0o001:
            os.chmod(directory, os.stat(directory).st_mode | 0o001)
    code = (
        "import os,socket,sys\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\ntry:\n s.sendall(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\\n'); print(s.recv(4096))\n"
        "except OSError as e: print(e)\n"
    )
    out = subprocess.run(["/usr/bin/env", "python3", "-c", code, str(serving.admin)], capture_output=True, text=True, timeout=patient(10), check=False)
    assert "result" not in out.stdout, out.stdout
    assert serving.call("status")


def test_socket_is_gone_at_the_end(server):
    serving = server()
    serving.stop()
    assert not serving.admin.exists()


def test_admin_none(server):
    serving = server("--admin-socket", "none")
    assert not serving.admin.exists()


# alknet-admin


def test_tool_prints_tables_and_json(server, login, targets):
    serving = server(workers=1)
    wire = login(serving, "anna")
    wire.open_channel(1, "127.0.0.1", targets.echo)
    for words in (["status"], ["session.list"], ["channel.list"], ["listener.list"], ["plugin.list"], ["metrics"]):
        out = admin(serving, *words)
        assert out.returncode == 0 and out.stdout.strip() and out.stderr == "", (words, out)
        if words[0] != "metrics":
            assert not out.stdout.lstrip().startswith(("{", "[")), "a table for people"
        out = admin(serving, *words, "--json")
        assert out.returncode == 0, (words, out)
        json.loads(out.stdout)
    # A table does not say that a worker was late.
    wait_until(lambda: "anna" in admin(serving, "session.list").stdout, 10, "the session in the table")
    ident = rows(json.loads(admin(serving, "session.list", "--json").stdout))[0]["id"]
    assert "anna" in admin(serving, "session.show", ident).stdout
    killed = admin(serving, "session.kill", ident)
    assert killed.returncode == 0 or procs.LATE in killed.stderr
    wire.wait_closed()


def test_tool_shows_hostile_names_harmlessly(server, login):
    """A user name with escapes does not reach the operator's terminal raw."""
    serving = server()
    try:
        login(serving, "evil\x1b[2Jname")
    except (sshwire.Closed, PermissionError):
        return
    for words in (["session.list"], ["session.list", "--json"]):
        assert "\x1b" not in admin(serving, *words).stdout


def test_tool_help(server):
    """Made from the command table: every command is there."""
    serving = server()
    out = admin(serving, "help")
    assert out.returncode == 0
    for command in COMMANDS:
        assert command in out.stdout, command


def test_tool_errors(server, tmp_path):
    serving = server()
    for words, names in (
        (["nonsense"], ["nonsense"]), (["session.kill"], ["id"]), (["session.kill", "x"], ["id"]), (["status", "extra"], ["extra"]),
        (["log.level", "loud"], ["loud"]), (["session.show", 2**31 - 1], ["session"]),
    ):
        out = admin(serving, *words)
        assert out.returncode in (1, 2) and out.stdout == "", (words, out)
        assert len(out.stderr.strip().splitlines()) == 1 and all(name in out.stderr for name in names), out
    serving.admin, path = tmp_path / "none.sock", serving.admin
    out = admin(serving, "status")
    serving.admin = path
    assert out.returncode == 1 and "none.sock" in out.stderr


def test_tool_watch(server, login):
    serving = server(workers=1)
    program = procs.Program([procs.alknet_admin(), "watch", "--socket", serving.admin], serving.admin.parent / "watch.log")
    try:
        def seen():
            login(serving, "anna").close()
            return "anna" in program.log()

        wait_until(seen, 20, "the event on the terminal")
    finally:
        program.kill()


def test_tool_helps_without_a_server():
    out = subprocess.run(
        [procs.alknet_admin(), "--help"], capture_output=True, text=True, timeout=patient(10), env=procs.environment(), check=False
    )
    assert out.returncode == 0 and "session.list" in out.stdout


@pytest.mark.parametrize("words, option", [
    (["ban.add", "192.0.2.1", "60", "--force"], "--force"), (["policy.eval", "--path", "x"], "--path"), (["log.level", "--length", "3"], "--length"),
])
def test_an_option_is_for_its_parameter_alone(words, option):
    """It is no value for the first parameter that has none."""
    out = subprocess.run([procs.alknet_admin(), "--socket", "/nonexistent", *words], capture_output=True, text=True)
    assert out.returncode == 2 and f"{option}: {words[0]} does not take it" in out.stderr, out


@pytest.fixture
def nobody(keys, tmp_path, running_programs):
    """Starts programs as a user who may make nothing in /run, in a directory of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    top = Path(tempfile.mkdtemp(prefix="alknet-nobody."))
    top.chmod(0o755)
    for name in ("host", "authorized_keys"):
        shutil.copy(keys.dir / name, top / name)
        os.chown(top / name, 65534, 65534)
    (top / "run").mkdir(0o700)
    os.chown(top / "run", 65534, 65534)
    who = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": top}
    try:
        subprocess.run([procs.alknet(), "--version"], capture_output=True, timeout=scaled(20), env=procs.environment(), check=True, **who)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("another user cannot run what was built")

    def start(**env):
        serving = procs.Server([procs.alknet(), "serve", "--key", "host", "--authorized-keys", "authorized_keys", "--listen", "127.0.0.1:0"],
                               tmp_path / "log", procs.environment(**env), **who)
        running_programs.append(serving)
        serving.find_port()
        return serving

    def ask(*words, **env):
        return subprocess.run([procs.alknet_admin(), *words], capture_output=True, text=True, timeout=scaled(20),
                              env=procs.environment(**env), check=False, **who)

    yield top, start, ask
    shutil.rmtree(top)


def test_the_default_place_of_a_user(nobody):
    """Who may make nothing in /run/alknet and named no place has one in XDG_RUNTIME_DIR, where alknet-admin looks too."""
    top, start, ask = nobody
    serving = start(XDG_RUNTIME_DIR=str(top / "run"))
    path = top / "run" / "alknet" / "admin.sock"
    serving.wait_log(f'msg="admin socket of the user" path={path}')
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    if not os.path.exists("/run/alknet/admin.sock"):
        out = ask("health", XDG_RUNTIME_DIR=str(top / "run"))
        assert out.returncode == 0, out
    out = ask("health", "--socket", str(path))
    assert out.returncode == 0, out


@pytest.mark.parametrize("directory", [None, "run/none/none", "relative"])
def test_a_user_without_a_place_serves_without_a_socket(nobody, directory):
    top, start, _ = nobody
    if directory is not None and directory != "relative":
        (top / "run" / "none").mkdir(0o700)  # root's
    serving = start(XDG_RUNTIME_DIR=directory if directory in (None, "relative") else str(top / directory))
    serving.wait_log('level=warn msg="no admin socket" path=/run/alknet/admin.sock error=.*--admin-socket')


def test_a_place_that_was_named_is_not_changed(nobody):
    """Then it is an error, as before."""
    top, _, _ = nobody
    out = subprocess.run([procs.alknet(), "serve", "--key", "host", "--authorized-keys", "authorized_keys", "--listen", "127.0.0.1:0",
                          "--admin-socket", "/run/alknet/admin.sock"], capture_output=True, text=True, timeout=scaled(20),
                         env=procs.environment(XDG_RUNTIME_DIR=str(top / "run")), check=False, user=65534, group=65534, extra_groups=[], cwd=top)
    assert out.returncode == 2 and "admin_socket: cannot" in out.stderr, out
