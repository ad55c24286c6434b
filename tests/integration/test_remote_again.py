# SPDX-License-Identifier: MIT OR Apache-2.0
"""Remote forwards that outlive a session, change hands, or are wanted no more; with ourselves and with stock sshd."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from harness import net, procs, sshwire
from harness.net import free_port
from harness.remote import held_port, listening, talk
from harness.sshwire import Reader, string, u32
from harness.waiting import wait_until

pytestmark = pytest.mark.usefixtures("libssh_forgets")

SCRIPTS = Path(os.environ.get("ALKNET_SRCDIR", Path(__file__).parents[2])) / "scripts"


class Relay:
    """Between client and server. What it carries when it is `cut` stays open and goes nowhere, as on a line that is dead."""

    def __init__(self, to):
        self.to, self.carried, self.over = to, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            if self.over:
                near.close()
                return
            line = threading.Event()
            far = socket.create_connection(("127.0.0.1", self.to))
            self.carried.append((near, far, line))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(*pair, line), daemon=True).start()

    def carry(self, one, other, line):
        try:
            while data := one.recv(65536):
                if line.is_set():
                    return
                other.sendall(data)
        except OSError:
            pass

    def cut(self):
        for _, _, line in self.carried:
            line.set()

    def close(self):
        self.over = True
        net.connect(self.port).close()
        self.thread.join()
        self.listener.close()
        for near, far, _ in self.carried:
            near.close()
            far.close()


@pytest.fixture
def relay():
    made = []

    def start(to):
        made.append(Relay(to))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("wanted", ["any", "one"])
def test_asked_for_again(far, client, targets, tmp_path, wanted):
    """After each reconnect the same ports listen again, and one line says so once."""
    port = free_port() if wanted == "one" else 0
    socket_path = tmp_path / "client.sock"
    program = client(far[0], "--remote-forward", f"127.0.0.1:{port}:127.0.0.1:{targets.echo}", "--admin-socket", socket_path, user=far[1], socks5="none")
    port = held_port(program)
    for times in (1, 2, 3):
        program.call("reconnect")
        wait_until(lambda: program.call("status")["reconnects"] == times, 20, "another session")
        wait_until(lambda: program.call("forward.list")["forwards"][0]["state"] == "held", 20, "the forward to be held")
        assert program.call("forward.list")["forwards"][0]["port"] == port
        assert talk(port, b"again")
    assert len(program.lines("the server listens on")) == 1
    assert not program.lines("refused to listen")


def test_stale_session_of_a_dead_line(server, client, targets, relay, workers):
    """The server does not know yet that the old session is dead: the new one has its port at once."""
    serving = server("--keepalive", "600", workers=workers)
    line = relay(serving.port)
    port = free_port()
    program = client(line, "--remote-forward", f"127.0.0.1:{port}:127.0.0.1:{targets.echo}", "--keepalive", "5", socks5="none")
    assert held_port(program) == port and talk(port, b"before")
    for times in (1, 2):
        line.cut()
        program.wait_log(r"alknet: the session ended: .*the peer does not answer", count=times)
        program.wait_log(r"alknet: connected to \S+ again after", count=times)
        wait_until(lambda: _holder(serving, port) == times + 1, 10, "the port to change hands")
        assert talk(port, b"after")
    assert not program.lines("refused to listen")
    assert len(serving.sessions()) == 3, "the old sessions are not dead at all"


def _holder(serving, port):
    rows = [row for row in serving.call("listener.list")["remote"] if row["address"].endswith(f":{port}")]
    return rows[0]["session"] if len(rows) == 1 and listening(port) else None


def test_client_that_hangs(server, client, targets, keys, tmp_path, workers):
    """A stopped client's port goes to the next of its identity, and to no other; awake again it takes no part."""
    both = tmp_path / "both"
    both.write_text(keys.public("user") + "\n" + keys.public("stranger") + "\n")
    both.chmod(0o644)
    serving = server(workers=workers, authorized=both)
    port = free_port()
    flags = ("--remote-forward", f"{port}:127.0.0.1:{targets.echo}")
    old = client(serving, "--remote-forward", f"{port}:127.0.0.1:{targets.discard}", socks5="none")
    assert held_port(old) == port
    procs.freeze(old.pid)
    try:
        other = client(serving, *flags, identity=keys.path("stranger"), socks5="none")
        other.wait_log("the server refused to listen")
        young = client(serving, *flags, socks5="none")
        held_port(young)
        wait_until(lambda: listening(port), 10, "the port to change hands")
        wait_until(lambda: len(serving.call("listener.list")["remote"]) == 1, 10, "one listener")
        assert talk(port, b"mine now")
    finally:
        old.signal(signal.SIGCONT)
    assert talk(port, b"still mine")
    young.stop()
    wait_until(lambda: not listening(port), 10, "the port to be free")


def test_port_that_could_not_be_taken_over(server, keys, client, targets, ipv6):
    """The answer was yes, and then another program has a part of the port: the client learns it by the end of its session, and
    by the next answer."""
    serving = server(workers=2)
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        wire.send(bytes([sshwire.GLOBAL_REQUEST]) + string("tcpip-forward") + b"\1" + string("127.0.0.1") + u32(0))
        port = Reader(wire.expect(sshwire.REQUEST_SUCCESS)[1:]).u32()
        wait_until(lambda: serving.call("listener.list")["remote"], 10, "it to be listed")
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            program = client(serving, "--remote-forward", f"{port}:127.0.0.1:{targets.echo}", socks5="none")
            program.wait_log(r"alknet: the session ended: .*the peer ended the session: the port of a remote forward could not be taken over")
            program.wait_log(rf"alknet: --remote-forward {port}:\S+ the server refused to listen")
            program.wait_log(r"alknet: connected to \S+ again after")
            assert program.running() and wire.is_alive()


def test_removed(far, client, targets, tmp_path):
    """The server stops listening; what goes through the forward goes on, and the port can be wanted again."""
    program = client(far[0], "--admin-socket", tmp_path / "client.sock", user=far[1], socks5="none")
    spec = f"127.0.0.1:0:127.0.0.1:{targets.echo}"
    for name in ("R1", "R2"):
        assert program.call("forward.add", spec=spec, remote=True)["added"] == name
        wait_until(lambda: program.call("forward.list")["forwards"][0]["state"] == "held", 10, "the server to listen")
        port = program.call("forward.list")["forwards"][0]["port"]
        with net.connect(port) as sock:
            net.ask_echo(sock)
            assert program.call("forward.remove", forward=name) == {"removed": name}
            wait_until(lambda: not listening(port), 10, "the server to stop listening")
            net.ask_echo(sock)
        with socket.create_server(("127.0.0.1", port)):
            pass
        spec = f"127.0.0.1:{port}:127.0.0.1:{targets.echo}"
    assert program.call("forward.list") == {"forwards": []}
    # Not asked for in the next session either.
    program.call("reconnect")
    wait_until(lambda: program.call("status")["reconnects"] == 1, 20, "another session")
    program.call("forward.add", spec=f"127.0.0.1:0:127.0.0.1:{targets.echo}", remote=True)
    wait_until(lambda: program.call("forward.list")["forwards"][0]["state"] == "held", 10, "the server to listen")
    assert not listening(port)


@pytest.fixture(params=["alknet", "sshd"])
def renewing(request, server):
    """As `far`, and it wants new keys after each MiB."""
    if request.param == "alknet":
        return server("--rekey-bytes", "1M"), "tester", "0"
    running = request.getfixturevalue("sshd")("RekeyLimit 1M")
    return running, running.user, "127.0.0.1:0"


def test_client_renews_keys(renewing, client, targets):
    """Many key exchanges while forwards carry data in both directions: nothing is lost."""
    program = client(renewing[0], "--remote-forward", f"{renewing[2]}:127.0.0.1:{targets.sink}", "--remote-forward",
                     f"{renewing[2]}:127.0.0.1:{targets.echo}",
                     user=renewing[1], socks5="none")
    sink, echo = held_port(program, 0), held_port(program, 1)
    size = 12 << 20
    with net.connect(sink) as sock, net.connect(echo) as small:
        for piece in net.pattern(size):
            sock.sendall(piece)
            net.ask_echo(small)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_all(sock) == f"{size} {net.pattern_sha256(size)}\n".encode()
    assert talk(echo, b"still there") and not program.lines("the session ended")


def test_forwards_added_while_keys_are_renewed(renewing, client, targets, tmp_path):
    """What is asked for beside a key exchange gets its answer."""
    program = client(renewing[0], "--remote-forward", f"{renewing[2]}:127.0.0.1:{targets.echo}", "--admin-socket", tmp_path / "client.sock",
                     user=renewing[1], socks5="none")
    port = held_port(program)
    for number in range(2, 9):
        for _ in range(3):
            assert talk(port, bytes(200000))
            program.call("forward.add", spec=f"127.0.0.1:{free_port()}:127.0.0.1:{targets.echo}", remote=True)
        wait_until(lambda: all(f["state"] == "held" for f in program.call("forward.list")["forwards"]), 10, f"all of round {number}")
    ports = {f["port"] for f in program.call("forward.list")["forwards"]}
    assert len(ports) == 22 and all(talk(port, b"each") for port in ports)


@pytest.mark.parametrize("policy", [None, "shipped"])
@pytest.mark.parametrize("gateway_ports", [False, True])
def test_gateway_ports(server, client, targets, policy, gateway_ports):
    """They mean the same with the shipped policy and without one."""
    text = (SCRIPTS / "policy.lua").read_text() if policy else None
    serving = server(*(["--gateway-ports"] if gateway_ports else []), policy=text)
    program = client(serving, "--remote-forward", f"0.0.0.0:0:127.0.0.1:{targets.echo}", socks5="none")
    port = held_port(program)
    assert ("0.0.0.0" in listening(port)) == gateway_ports
    (answer,) = [a for a in serving.call("policy.eval", listen="0.0.0.0:80")["answers"] if a["question"] == "on_listen"]
    assert answer["listen"]["host"] == ("0.0.0.0" if gateway_ports else "localhost")
    assert talk(port, b"hello")
