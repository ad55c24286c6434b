# SPDX-License-Identifier: MIT OR Apache-2.0
"""Remote forwards of alknet serve, driven by stock ssh and by hand (THREATS 31)."""

import os
import re
import signal
import socket

import pytest

from harness import net, procs, sshwire
from harness.net import free_port
from harness.remote import held_port, listening, sockets, talk
from harness.sshwire import GLOBAL_REQUEST, REQUEST_FAILURE, REQUEST_SUCCESS, Reader, string, u32
from harness.waiting import wait_until

pytestmark = pytest.mark.usefixtures("libssh_forgets")


def ssh_remote(ssh, to, spec, *more, **options):
    """`ssh -N -R SPEC`, and the port that the server listens on once it does."""
    program = ssh.start(to, "-v", "-o", "LogLevel=VERBOSE", "-N", "-R", spec, *more, **options)
    if spec.split(":")[-3] == "0":
        return program, int(program.wait_log(r"Allocated port (\d+) for remote forward").group(1))
    program.wait_log("remote forward success|Authenticated to")
    return program, int(spec.split(":")[-3])


def wait_gone(port, held=None):
    """Nobody listens there; with `held`, what sockets(port) gave before: none of those do. The kernel may
    give a port that it chose to the next who asks, in another run of the tests too."""
    wait_until(lambda: not any(held is None or one in held for one in sockets(port)), 10, f"port {port} to be free")


def test_ssh_port_zero(server, ssh, targets, workers):
    """Any port: answered with its number, on both loopback addresses, gone with the session."""
    program, port = ssh_remote(ssh, server(workers=workers), f"0:127.0.0.1:{targets.echo}")
    assert listening(port) - {"::1"} == {"127.0.0.1"}
    assert talk(port, b"through ssh -R")
    held = sockets(port)
    program.stop()
    wait_gone(port, held)


def test_half_close_and_much(server, ssh, targets):
    """Ends of input go through each by itself, and much goes through whole."""
    _, port = ssh_remote(ssh, server(), f"0:127.0.0.1:{targets.sink}")
    size = 20 << 20
    with net.connect(port) as sock:
        for piece in net.pattern(size):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_all(sock) == f"{size} {net.pattern_sha256(size)}\n".encode()


def test_slow_reader_bounds_memory(server, client, targets, sanitized):
    """A target that does not read stops its writer; nobody's memory grows."""
    serving = server(workers=1)
    program = client(serving, "--remote-forward", f"0:127.0.0.1:{targets.slow}")
    port = held_port(program)
    before = serving.memory() + program.memory()
    with net.connect(port) as sock:
        sock.sendall(b"remote-slow\n")
        sock.settimeout(1)
        sent = 0
        try:
            while sent < 256 << 20:
                sent += sock.send(b"\0" * 65536)
        except TimeoutError:
            pass
        assert sent < 64 << 20
        assert serving.memory() + program.memory() - before < (64 << 20 if sanitized else 12 << 20)
        targets.wake("remote-slow")
        sock.settimeout(30)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_all(sock).startswith(f"{sent} ".encode())


def test_originator_is_told(server, keys):
    """The client learns who connected, and the address and port as it asked for them."""
    with sshwire.Wire(server().port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        port = ask(wire, "localhost", 0)
        with net.connect(port) as sock:
            kind, _, fields = opened(wire)
            assert kind == b"forwarded-tcpip"
            assert fields.string() == b"localhost" and fields.u32() == port
            assert fields.string() == b"127.0.0.1" and fields.u32() == sock.getsockname()[1]


def test_client_that_refuses(server, keys):
    """A connection that the client does not want is closed; the session and the listener go on."""
    with sshwire.Wire(server().port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        port = ask(wire, "localhost", 0)
        for _ in range(3):
            with net.connect(port) as sock:
                _, number, _ = opened(wire)
                wire.send(bytes([sshwire.OPEN_FAILURE]) + u32(number) + u32(2) + string("no") + string(""))
                assert net.recv_all(sock) == b""
        assert wire.is_alive()


def test_client_that_never_answers(server, keys):
    """Connections that wait for an answer are bounded; the others are closed, and so are all at the end."""
    serving = server("--max-channels", "20")
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        port = ask(wire, "localhost", 0)
        socks = [net.connect(port) for _ in range(30)]
        wait_until(lambda: serving.sessions()[0]["channels"] == 20, 10, "twenty channels")
        assert sum(closed(sock) for sock in socks) == 10
    for sock in socks:
        with sock:
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
    wait_gone(port)


def closed(sock):
    sock.setblocking(False)
    try:
        return wait_until(lambda: looked(sock), 0.3, "an end") is True
    except AssertionError:
        return False
    finally:
        sock.settimeout(30)


def looked(sock):
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def request(name, host, port, want=True):
    return bytes([GLOBAL_REQUEST]) + string(name) + bytes([want]) + string(host) + u32(port)


def answer(wire):
    """True, a port, or False."""
    payload = wire.expect(REQUEST_SUCCESS, REQUEST_FAILURE)
    if payload[0] == REQUEST_FAILURE:
        return False
    return Reader(payload[1:]).u32() if len(payload) > 1 else True


def ask(wire, host, port):
    wire.send(request("tcpip-forward", host, port))
    return answer(wire)


def cancel(wire, host, port):
    wire.send(request("cancel-tcpip-forward", host, port))
    return answer(wire)


def opened(wire):
    """The next channel that the server asks for: its kind, its number there, and what follows."""
    fields = Reader(wire.expect(sshwire.CHANNEL_OPEN)[1:])
    kind, number = fields.string(), fields.u32()
    fields.u32(), fields.u32()
    return kind, number, fields


@pytest.fixture
def wire(server, keys):
    serving = server()
    with sshwire.Wire(serving.port) as connected:
        connected.serving = serving
        yield connected.login(sshwire.load_key(keys.path("user")))


KEEPALIVE = bytes([GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1"
NOBODY = bytes([GLOBAL_REQUEST]) + string("nobody-knows@example.com") + b"\1"


def test_t31_answers_keep_their_order(wire):
    """Forwards, keepalives and nonsense in one write: the answers come in the order of the questions."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken, free = other.getsockname()[1], free_port()
        wire.raw(
            b"".join(
                map(
                    wire.pack,
                    [
                        request("tcpip-forward", "127.0.0.1", taken), KEEPALIVE, request("tcpip-forward", "127.0.0.1", 0), NOBODY,
                        request("tcpip-forward", "127.0.0.1", free), KEEPALIVE, request("cancel-tcpip-forward", "127.0.0.1", free),
                        request("cancel-tcpip-forward", "127.0.0.1", free), KEEPALIVE, request("cancel-tcpip-forward", "127.0.0.1", 9, False),
                        request("tcpip-forward", "127.0.0.1", free),
                    ],
                )
            )
        )
        first = [answer(wire) for _ in range(10)]
    assert isinstance(first[2], int) and first[2] > 1024 and first[2] is not True
    first[2] = "port"
    assert first == [False, True, "port", False, True, True, True, False, True, True]


def test_t31_duplicate(wire, targets):
    port = ask(wire, "127.0.0.1", 0)
    assert ask(wire, "127.0.0.1", port) is False
    assert ask(wire, "localhost", port) is False
    assert listening(port) == {"127.0.0.1"}
    assert cancel(wire, "127.0.0.1", port) is True
    assert not listening(port)
    assert ask(wire, "127.0.0.1", port) is True


def test_t31_cancel(wire):
    """Only what was asked for is cancelled, and only that."""
    one, two = ask(wire, "127.0.0.1", 0), ask(wire, "127.0.0.1", 0)
    assert cancel(wire, "127.0.0.1", 1) is False
    assert cancel(wire, "localhost", one) is False
    assert cancel(wire, "127.0.0.1", one) is True
    assert not listening(one) and listening(two)
    assert cancel(wire, "127.0.0.1", one) is False


def test_t31_connections_outlive_a_cancel(wire):
    port = ask(wire, "127.0.0.1", 0)
    with net.connect(port) as sock:
        _, number, _ = opened(wire)
        wire.send(bytes([sshwire.OPEN_CONFIRMATION]) + u32(number) + u32(7) + u32(1 << 20) + u32(32768))
        assert cancel(wire, "127.0.0.1", port) is True
        sock.sendall(b"still")
        assert wire.read(5) == b"still"
        wire.data(number, b"here")
        assert net.recv_exact(sock, 4) == b"here"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could")
def test_t31_privileged(server, keys):
    """Workers without privileges cannot have a privileged port."""
    serving = server("--user", "nobody")
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        start = int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii").read())
        if start < 2:
            pytest.skip("no port is privileged here")
        assert ask(wire, "127.0.0.1", start - 1) is False
        assert ask(wire, "127.0.0.1", 0) > 1


@pytest.mark.parametrize("how", ["close", "disconnect", "kill"])
def test_t31_listener_ends_with_its_session(wire, how):
    ports = [ask(wire, "127.0.0.1", 0) for _ in range(5)]
    held = {port: sockets(port) for port in ports}
    assert all(held.values())
    if how == "close":
        wire.close()
    elif how == "disconnect":
        wire.send(bytes([sshwire.DISCONNECT]) + u32(11) + string("bye") + string(""))
    else:
        wire.serving.call("session.kill", id=wire.serving.sessions()[0]["id"])
    for port in ports:
        wait_gone(port, held[port])
    wait_until(lambda: wire.serving.metric("alknet_remote_listeners") == 0, 10, "them to be counted as gone")


def test_t31_worker_that_dies(server, keys):
    """Its listeners die with it, and the supervisor forgets them."""
    serving = server(workers=1)
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        port = ask(wire, "127.0.0.1", 0)
        held = sockets(port)
        wait_until(lambda: serving.call("listener.list")["remote"], 5, "it to be listed")
        os.kill(serving.workers()[0], signal.SIGKILL)
        wait_gone(port, held)
        wait_until(lambda: serving.call("listener.list")["remote"] == [], 10, "it to be forgotten")


def test_t31_many(server, keys, sanitized):
    """A thousand forwards: as many as the option says are granted, each question is answered."""
    serving = server("--max-remote-forwards", "10")
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        for _ in range(1000):
            wire.send(request("tcpip-forward", "127.0.0.1", 0))
        answers = [answer(wire) for _ in range(1000)]
        assert sum(a is not False for a in answers) == 10
        assert wire.is_alive()
        assert len(serving.call("listener.list")["remote"]) == 10


@pytest.mark.parametrize("host", ["x" * 10240, "\xff\xfe", "host.example.com", "127.0.0.1:22", "[::1]", "127.1", "a\nb", "300.1.1.1"])
def test_t31_garbage_for_an_address(server, keys, host):
    """Refused, without asking a name server, where other addresses than loopback may be listened on."""
    with sshwire.Wire(server("--gateway-ports").port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        assert ask(wire, host.encode("latin-1"), 0) is False
        assert ask(wire, "127.0.0.1", 0)


def test_t31_ports_that_are_none(wire):
    """The library keeps 16 bits of a port: the answer is one, nothing worse."""
    for port in (70000, 65536, 2**32 - 1):
        wire.send(request("tcpip-forward", "127.0.0.1", port))
        answer(wire)
    assert wire.is_alive()


@pytest.mark.parametrize("cut", [0, 3, 8, 12])
def test_t31_short_requests(wire, cut):
    whole = string("127.0.0.1") + u32(0)
    for name in ("tcpip-forward", "cancel-tcpip-forward"):
        wire.send(bytes([GLOBAL_REQUEST]) + string(name) + b"\1" + whole[:cut])
        assert answer(wire) is False
    assert ask(wire, "127.0.0.1", 0)


def test_t31_what_the_library_loses_is_bounded(server, keys):
    """Long addresses for ever: the session ends, and its identity has to wait."""
    serving = server(workers=1)
    before = serving.memory()
    key = sshwire.load_key(keys.path("user"))
    with sshwire.Wire(serving.port) as wire:
        wire.login(key)
        with pytest.raises(sshwire.Closed):
            for _ in range(2000):
                wire.send(request("tcpip-forward", b"x" * 30000, 0))
            wire.wait_closed()
            raise sshwire.Closed
    assert serving.memory() - before < 8 << 20
    with sshwire.Wire(serving.port) as wire, pytest.raises(PermissionError):
        wire.login(key)


def test_loopback_unless_gateway_ports(server, ssh, targets):
    """ssh -R '*:PORT' listens on loopback alone, as with sshd, until gateway_ports says otherwise."""
    port = free_port()
    program, _ = ssh_remote(ssh, server(), f"*:{port}:127.0.0.1:{targets.echo}")
    wait_until(lambda: listening(port), 10, "a listener")
    assert "127.0.0.1" in listening(port) and listening(port) <= {"127.0.0.1", "::1"}
    assert talk(port, b"loopback")
    program.stop()
    wait_gone(port)
    ssh_remote(ssh, server("--gateway-ports"), f"*:{port}:127.0.0.1:{targets.echo}")
    wait_until(lambda: listening(port), 10, "a listener")
    assert "0.0.0.0" in listening(port)
    assert talk(port, b"everywhere")


POLICY = """
return {
    on_listen = function(session, bind)
        if bind.port == %d then return "deny", "not this one" end
        if bind.port == %d then return "allow", { host = "127.0.0.2", port = %d } end
        if bind.port == 1 then alknet.log("info", bind.host) error("broken") end
        return "allow"
    end,
}
"""


def test_policy_decides(server, ssh, keys, targets):
    """A denial, another place, and a script that fails; the client knows its forward by what it asked for."""
    denied, moved, real = free_port(), free_port(), free_port()
    serving = server(policy=POLICY % (denied, moved, real))
    out = ssh.run(serving, "-N", "-R", f"{denied}:127.0.0.1:1", timeout=20)
    assert out.returncode == 255 and b"remote port forwarding failed" in out.stderr
    ssh_remote(ssh, serving, f"{moved}:127.0.0.1:{targets.echo}")
    wait_until(lambda: listening(real), 10, "a listener")
    assert listening(real) == {"127.0.0.2"} and not listening(moved)
    assert talk(real, b"moved", "127.0.0.2")
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        assert ask(wire, "127.0.0.1", 1) is False
        assert ask(wire, "", 0)


def test_no_addresses_in_the_log(server, keys):
    serving = server()
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        port = ask(wire, "localhost", 0)
        assert ask(wire, "127.0.0.1", port) is False
        serving.wait_log(r'msg="remote forward" .*result=reject')
    assert serving.lines('msg="remote forward"', "result=accept")
    assert not re.search(rf"(?<!\d){port}(?!\d)", "\n".join(serving.lines('msg="remote forward"')))


def test_admin_shows_them(server, keys):
    serving = server()
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        port = ask(wire, "127.0.0.1", 0)
        wait_until(lambda: serving.call("listener.list")["remote"], 5, "it to be listed")
        (one,) = serving.call("listener.list")["remote"]
        (session,) = serving.sessions()
        assert one["address"] == f"127.0.0.1:{port}" and one["session"] == session["id"]
        assert one["identity"] == keys.fingerprint("user")
        shown = serving.call("session.show", id=session["id"])["session"]
        assert shown["remote_listeners"] == [{"address": f"127.0.0.1:{port}", "port": port}]
        assert serving.metric("alknet_remote_listeners") == 1
    wait_until(lambda: serving.call("listener.list")["remote"] == [], 10, "it to be gone")


@pytest.fixture
def both(keys, tmp_path):
    """Two identities may log in."""
    file = tmp_path / "both"
    file.write_text(keys.public("user") + "\n" + keys.public("stranger") + "\n")
    file.chmod(0o644)
    return file


def test_stale_session_is_taken_over(server, ssh, keys, targets, both, workers):
    """The same identity gets its port from a session that does not answer any more; another does not."""
    serving = server(workers=workers, authorized=both)
    port = free_port()
    old, _ = ssh_remote(ssh, serving, f"{port}:127.0.0.1:{targets.discard}")
    wait_until(lambda: listening(port), 10, "a listener")
    procs.freeze(old.pid)
    try:
        out = ssh.run(serving, "-N", "-R", f"{port}:127.0.0.1:1", identity="stranger", timeout=20)
        assert out.returncode == 255 and b"remote port forwarding failed" in out.stderr
        # With two workers the sessions are spread over them: some of these are in the other one.
        for number in range(3):
            with sshwire.Wire(serving.port) as wire:
                wire.login(sshwire.load_key(keys.path("user")))
                assert ask(wire, "localhost", port) is True
                wait_until(lambda: held_by(serving, port) not in (None, 1), 10, "the port to change hands")
                with net.connect(port) as sock:
                    assert opened(wire)[0] == b"forwarded-tcpip", f"round {number}"
                    assert sock
            wait_gone(port)
    finally:
        old.signal(signal.SIGCONT)


def held_by(serving, port):
    rows = [row for row in serving.call("listener.list")["remote"] if re.search(rf":{port}\b", row["address"])]
    return rows[0]["session"] if rows and listening(port) else None


def test_taken_over_again_and_again(server, keys, both):
    """Sessions of one identity hand a port round over two workers; the last one has it."""
    serving = server(workers=2, authorized=both)
    port, key = free_port(), sshwire.load_key(keys.path("user"))
    wires = []
    try:
        holders = set()
        for number in range(6):
            wires.append(sshwire.Wire(serving.port).login(key))
            assert ask(wires[-1], "127.0.0.1", port) is True
            wait_until(lambda: held_by(serving, port) == number + 1, 10, "the port to change hands")
            holders.add(serving.call("listener.list")["remote"][0]["worker"])
            with net.connect(port):
                assert opened(wires[-1])[0] == b"forwarded-tcpip"
        assert len(holders) == 2
    finally:
        for wire in wires:
            wire.close()
    wait_gone(port)


@pytest.mark.parametrize("workers", [0, 2])
def test_addresses_of_a_port_change_hands_alone(server, keys, workers):
    """Of one session's port at two addresses the next session takes one; the other stays, and goes with the one that has it."""
    serving = server(workers=workers)
    port, key = free_port(), sshwire.load_key(keys.path("user"))
    with sshwire.Wire(serving.port).login(key) as old:
        assert ask(old, "127.0.0.1", port) is True and ask(old, "127.0.0.2", port) is True
        for _ in range(3):  # with two workers some are in the other one
            with sshwire.Wire(serving.port).login(key) as young:
                assert ask(young, "127.0.0.1", port) is True
                wait_until(lambda: len(holders(serving, port)) == 2 and len(set(holders(serving, port).values())) == 2, 10, "one to change hands")
                with net.connect(port), net.connect(port, "127.0.0.2"):
                    assert opened(young)[0] == opened(old)[0] == b"forwarded-tcpip"
            wait_until(lambda: listening(port) == {"127.0.0.2"}, 10, "the young one's to go")
        assert old.is_alive()
    wait_gone(port)


def holders(serving, port):
    rows = serving.call("listener.list")["remote"]
    return {row["address"]: row["session"] for row in rows if row["address"].endswith(f":{port}")}


def test_accepting_pauses_without_descriptors(server, keys, targets):
    """Out of descriptors the listener pauses and goes on later; THREATS 40."""
    serving = server(workers=1, wrap=("prlimit", "--nofile=60:60"))
    with sshwire.Wire(serving.port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        port = ask(wire, "127.0.0.1", 0)
        socks = [net.connect(port) for _ in range(80)]
        serving.wait_log(r'msg="accept paused"')
        for sock in socks:
            sock.close()
        # What waits now is refused by hand, and then there is room again.
        refused = 0
        while refused < 80:
            _, number, _ = opened(wire)
            wire.send(bytes([sshwire.OPEN_FAILURE]) + u32(number) + u32(2) + string("") + string(""))
            refused += 1
        with net.connect(port):
            assert opened(wire)[0] == b"forwarded-tcpip"


def test_rekey_in_between(server, ssh, targets):
    """Keys renewed many times while data goes through."""
    program, port = ssh_remote(ssh, server("--rekey-bytes", "1M"), f"0:127.0.0.1:{targets.sink}")
    size = 16 << 20
    with net.connect(port) as sock:
        for piece in net.pattern(size):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_all(sock) == f"{size} {net.pattern_sha256(size)}\n".encode()
    assert program.running()


def test_permitlisten(server, keys, tmp_path):
    """A line of authorized_keys says where its key may have the server listen."""
    allowed, other = free_port(), free_port()
    file = tmp_path / "limited"
    file.write_text(f'permitlisten="localhost:{allowed}" ' + keys.public("user") + "\n")
    file.chmod(0o644)
    with sshwire.Wire(server(authorized=file).port) as wire:
        wire.login(sshwire.load_key(keys.path("user")))
        answers = [ask(wire, *to) for to in (("localhost", other), ("127.0.0.1", allowed), ("", allowed), ("localhost", 0), ("localhost", allowed))]
    assert answers == [False, False, False, False, True]
