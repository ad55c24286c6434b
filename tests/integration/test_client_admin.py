# SPDX-License-Identifier: MIT OR Apache-2.0
"""The client's own admin socket: alknet connect --admin-socket, asked by alknet-admin."""

import json
import os
import re
import socket
import stat
import subprocess

import pytest

from harness import net, procs
from harness.waiting import scaled, wait_until


@pytest.fixture
def steered(server, client, tmp_path):
    """A client with an admin socket, and its server."""

    def start(*flags, to=None, **options):
        serving = to or server()
        connecting = client(serving, "--admin-socket", tmp_path / "client.sock", *flags, **options)
        return serving, connecting

    return start


def admin(connecting, *words):
    argv = [procs.alknet_admin(), "--socket", connecting.admin, *map(str, words)]
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=scaled(30), env=procs.environment(), check=False)


def listens(port):
    try:
        net.connect(port).close()
        return True
    except ConnectionRefusedError:
        return False


def test_no_socket_without_the_option(server, client):
    connecting = client(server())
    assert not [name for name in procs.open_files(connecting.pid) if name.endswith(".sock")]


def test_remote_forwards_do_not_wait_for_stderr(libssh_forgets, server, client, tmp_path, targets):
    """Nobody reads our stderr any more, and it is full: what is told of forwards is lost, all else goes on."""
    fifo = tmp_path / "stderr"
    os.mkfifo(fifo)
    pipe = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        sock = tmp_path / "client.sock"
        connecting = client(server(), "--admin-socket", sock, wait=False, wrap=("sh", "-c", f'exec "$0" "$@" 2>{fifo}'))
        wait_until(lambda: sock.exists() and connecting.call("status")["state"] == "up", 10, "a session")
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pipe, b"x" * 4096)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(pipe, b"x")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            for port in (0, taken.getsockname()[1]):
                connecting.call("forward.add", spec=f"127.0.0.1:{port}:127.0.0.1:{targets.echo}", remote=True)

            def states():
                return [row.get("state") for row in connecting.call("status")["forwards"]]

            wait_until(lambda: states() == ["held", "refused"], 10, "both to be answered")
    finally:
        os.close(pipe)


def test_status(steered, targets):
    serving, connecting = steered("--forward", f"127.0.0.1:0:127.0.0.1:{targets.echo}")
    assert stat.S_IMODE(os.stat(connecting.admin).st_mode) == 0o600
    status = connecting.call("status")
    assert status["state"] == "up" and status["server"] == f"127.0.0.1:{serving.port}" and status["pid"] == connecting.pid
    assert status["reconnects"] == 0 and status["reason"] == "" and status["channels"] == 0
    assert status["socks5"] == f"127.0.0.1:{connecting.port}"
    with net.socks_connect(connecting.port, "127.0.0.1", targets.echo):
        assert connecting.call("status")["channels"] == 1
    text = admin(connecting, "status").stdout
    assert "state" in text and "FORWARD" in text and "L1" in text, text
    serving.stop()
    wait_until(lambda: connecting.call("status")["state"] != "up", 10, "the session to end")
    status = connecting.call("status")
    assert status["reason"] and status["state"] in ("waiting", "connecting")


def test_forwards_come_and_go(steered, targets):
    _, connecting = steered()
    assert connecting.call("forward.list") == {"forwards": []}
    out = admin(connecting, "forward.add", f"0:127.0.0.1:{targets.echo}", "--json")
    answer = json.loads(out.stdout)
    assert answer["added"] == "L1" and len(answer["forwards"]) == 1
    row = answer["forwards"][0]
    assert row["to"] == f"127.0.0.1:{targets.echo}" and row["kind"] == "local"
    port = int(row["from"].rsplit(":", 1)[1])
    with net.connect(port) as sock:
        net.ask_echo(sock)
        assert "L1" in admin(connecting, "forward.list").stdout
        assert admin(connecting, "forward.remove", "L1").returncode == 0
        # What goes through it goes on.
        net.ask_echo(sock)
        assert not listens(port)
    assert connecting.call("forward.list") == {"forwards": []}
    # A name is not used again.
    assert connecting.call("forward.add", spec=f"0:127.0.0.1:{targets.echo}")["added"] == "L2"


def test_remote_forwards_come_and_go(steered, sshd, targets):
    daemon = sshd()
    _, connecting = steered(to=daemon, user=daemon.user)
    assert connecting.call("forward.add", spec=f"127.0.0.1:0:127.0.0.1:{targets.echo}", remote=True)["added"] == "R1"
    wait_until(lambda: connecting.call("forward.list")["forwards"][0]["state"] == "held", 10, "sshd to listen")
    port = connecting.call("forward.list")["forwards"][0]["port"]
    with net.connect(port) as sock:
        net.ask_echo(sock)
    assert admin(connecting, "forward.remove", "R1").returncode == 0
    wait_until(lambda: not listens(port), 10, "sshd to stop listening")


def test_forward_on_a_unix_socket(steered, targets, tmp_path):
    _, connecting = steered()
    path = tmp_path / "here.sock"
    assert connecting.call("forward.add", spec=f"{path}:127.0.0.1:{targets.echo}")["added"] == "L1"
    assert path.is_socket()
    connecting.call("forward.remove", forward="L1")
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["forward.add", "nonsense"], "nonsense"),
        (["forward.add", "TAKEN:h:1"], "in use"),
        (["forward.remove", "L7"], "no such forward"),
        (["forward.remove", "L0"], "no such forward"),
        (["forward.remove", "L01"], "no such forward"),
        (["forward.remove", "R1"], "no such forward"),
        (["forward.remove", "L99999999999999999999999"], "no such forward"),
        (["forward.remove", ""], "no such forward"),
        (["log.level", "loud"], "loud"),
        (["session.list"], "session.list is a command of a server (alknet serve); this is a client"),
        (["drain"], "drain is a command of a server"),
    ],
    ids=lambda value: "-".join(value)[:20] if isinstance(value, list) else "",
)
def test_bad_requests(steered, words, answer):
    _, connecting = steered()
    out = admin(connecting, *(word.replace("TAKEN", str(connecting.port)) for word in words))
    assert out.returncode == (2 if words[-1] in ("nonsense", "loud") else 1) and answer in out.stderr, out
    assert connecting.call("status")["state"] == "up"
    assert connecting.call("forward.list") == {"forwards": []}


def test_a_server_has_no_forwards(server):
    serving = server()
    with pytest.raises(procs.AdminError, match="forward.list is a command of a client .alknet connect.; this is a server") as error:
        serving.call("forward.list")
    assert error.value.code == -32601
    with pytest.raises(procs.AdminError, match="did you mean session.list"):
        serving.call("session.lst")


def test_help_says_what_a_client_answers(steered):
    _, connecting = steered()
    text = subprocess.run([procs.alknet_admin(), "help"], capture_output=True, text=True, timeout=scaled(30), check=True).stdout
    listed = {line.split()[0] for line in text.split("Options:")[0].splitlines() if line.startswith("  ") and "." in line.split()[0]}
    listed |= {"status", "health", "reload", "drain", "shutdown", "metrics", "watch", "reconnect"}
    said = re.search(r"A client \(.*?\) answers (.*?);", text, re.DOTALL).group(1)
    said = set(said.replace(" and ", ", ").replace("\n", " ").replace(" ", "").split(","))

    def answered(name):
        try:
            connecting.call(name)
        except procs.AdminError as error:
            return error.code != -32601
        return True

    known = {name for name in listed if name == "shutdown" or answered(name)}
    assert known == said and len(listed) > 20


def test_reconnect(steered, targets):
    serving, connecting = steered()
    for times in (1, 2):
        with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
            net.ask_echo(sock)
            assert admin(connecting, "reconnect").returncode == 0
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
        wait_until(lambda: connecting.call("status")["reconnects"] == times, 10, "another session")
    wait_until(lambda: len(serving.sessions()) == 1, 10, "the old sessions to be gone")
    # The questions above may have theirs open still, one each; five more sessions would leave more than that behind.
    files = len(procs.open_files(connecting.pid))
    for times in range(3, 8):
        connecting.call("reconnect")
        wait_until(lambda: connecting.call("status")["reconnects"] == times, 10, "another session")
    wait_until(lambda: len(procs.open_files(connecting.pid)) <= files, 10, "no descriptor to be left behind")


def test_shutdown(steered):
    _, connecting = steered()
    path = connecting.admin
    assert admin(connecting, "shutdown").returncode == 0
    assert connecting.wait(10) == 0
    assert not path.exists()


def test_metrics_and_log_level(steered):
    _, connecting = steered()
    text = admin(connecting, "metrics").stdout
    assert "\nalknet_client_up 1\n" in text and "\nalknet_client_reconnects_total 0\n" in text
    assert "\nalknet_handshake_duration_seconds_count 1\n" in text and "\nalknet_open_duration_seconds_count 0\n" in text
    assert connecting.call("log.level") == {"level": "warn"}
    assert connecting.call("log.level", level="debug") == {"level": "debug"}


def test_a_socket_that_is_in_use(steered, server, keys, tmp_path):
    serving, connecting = steered()
    argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", keys.path("user"), "--socks5", "127.0.0.1:0"]
    argv += ["--known-hosts", connecting.known_hosts, "--admin-socket", connecting.admin]
    out = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=scaled(30), env=procs.environment(), check=False)
    assert out.returncode == 2 and str(connecting.admin) in out.stderr, out
