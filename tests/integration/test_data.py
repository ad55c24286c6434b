# SPDX-License-Identifier: MIT OR Apache-2.0
"""The data path: half-close, large transfers, many channels, rekeying, resets."""

import hashlib
import socket
import struct
import threading

import pytest

from harness import net
from harness.waiting import scaled, wait_until

MB = 1000 * 1000


def upload(sock, total):
    for piece in net.pattern(total):
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)
    return net.recv_line(sock).split()


def download(sock, total):
    sock.sendall(b"%d\n" % total)
    digest, got, buf = hashlib.sha256(), 0, bytearray(1 << 18)
    view = memoryview(buf)
    while n := sock.recv_into(buf):
        digest.update(view[:n])
        got += n
    return got, digest.hexdigest()


def check_up(pair, targets, total):
    with pair.connect(targets.sink) as sock:
        assert upload(sock, total) == [b"%d" % total, net.pattern_sha256(total).encode()]


def check_down(pair, targets, total):
    with pair.connect(targets.source) as sock:
        assert download(sock, total) == (total, net.pattern_sha256(total))


def test_large_transfer_up(pair, targets):
    check_up(pair, targets, 200 * MB)


def test_large_transfer_down(pair, targets):
    check_down(pair, targets, 200 * MB)


def both_ways(pair, targets, total):
    errors = []

    def run(check):
        try:
            check(pair, targets, total)
        except BaseException as error:  # told to the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(c,)) for c in (check_up, check_down, check_up, check_down)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(60))
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads)


def test_both_ways_at_once(pair, targets):
    """Full duplex on one session: nothing is lost and nothing stands still."""
    both_ways(pair, targets, 50 * MB)


def test_core_paths_with_every_number_of_workers(tunnel, targets, workers):
    serving, connecting = tunnel(workers=workers)
    assert len(serving.workers()) == workers

    class Ends:
        @staticmethod
        def connect(to):
            return net.socks_connect(connecting.port, "127.0.0.1", to)

    check_up(Ends, targets, 20 * MB)
    check_down(Ends, targets, 20 * MB)


def test_t25_end_of_the_application_first(pair, targets):
    """Send EOF, still receive."""
    with pair.connect(targets.sink) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert net.recv_line(sock).split() == [b"5", hashlib.sha256(b"hello").hexdigest().encode()]
        assert sock.recv(1) == b""


def test_t25_end_of_the_target_first(pair, targets):
    """Receive EOF, still send."""
    before = targets.stat("read", "bye")
    with pair.connect(targets.bye) as sock:
        assert net.recv_all(sock) == b"bye\n"
        sock.sendall(b"z" * 1000003)
        wait_until(lambda: targets.stat("read", "bye") == before + 1000003, 20, "what was sent after the target's EOF")


def test_t25_end_after_the_backlog(pair, targets):
    """An EOF that came while data was unread: the target still gets all, then the EOF."""
    with pair.connect(targets.slow) as sock:
        name = f"backlog-{id(sock)}"
        sock.sendall(name.encode() + b"\n")
        for piece in net.pattern(1 * MB):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        targets.wake(name)
        assert net.recv_line(sock).split() == [b"%d" % MB, net.pattern_sha256(MB).encode()]


def test_t25_end_behind_what_waits(server, client, tmp_path):
    """The same where the kernel holds little: most of it waits in the channel when the EOF comes."""
    path = tmp_path / "target.sock"
    serving = server(policy=f'return {{ on_open = function() return "forward", {{ path = "{path}" }} end }}')
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(scaled(20))
        with net.socks_connect(client(serving).port, "target.example", 7) as sock:
            target, _ = listener.accept()
            target.settimeout(scaled(20))
            for piece in net.pattern(MB):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            wait_until(lambda: any(one["eof_in"] for one in serving.call("channel.list")["channels"]), 20, "the EOF to be there")
            with target:
                assert hashlib.sha256(net.recv_all(target)).hexdigest() == net.pattern_sha256(MB)


def test_empty_channel(pair, targets):
    with pair.connect(targets.echo) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_t26_reset_by_the_target(pair, targets):
    with pair.connect(targets.reset) as sock:
        sock.sendall(b"x" * 100)
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_t26_reset_by_the_application(pair, targets):
    """The target sees the end fast, in the middle of a transfer."""
    before = targets.stat("ended", "source")
    sock = pair.connect(targets.source)
    sock.sendall(b"%d\n" % (1 << 40))
    net.recv_exact(sock, 1 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    wait_until(lambda: targets.stat("ended", "source") > before, 10, "the target to notice")
    with pair.connect(targets.echo) as other:
        net.ask_echo(other)


def test_200_channels_at_once(pair, targets):
    socks = [pair.connect(targets.echo) for _ in range(200)]
    try:
        for n, sock in enumerate(socks):
            sock.sendall(b"%06d" % n * 100)
        for n, sock in enumerate(socks):
            assert net.recv_exact(sock, 600) == b"%06d" % n * 100
    finally:
        for sock in socks:
            sock.close()
    with pair.connect(targets.echo) as sock:
        net.ask_echo(sock)


def test_many_short_connections(pair, targets):
    for n in range(300):
        with pair.connect(targets.echo) as sock:
            net.ask_echo(sock, b"%d\n" % n)
    if pair.server in pair.ours:
        wait_until(lambda: pair.server.metric("alknet_channels") == 0, 10, "every channel to be gone")


def kex_count(program):
    return program.log().count("SSH2_MSG_KEXINIT received")


@pytest.mark.parametrize("way", ["up", "down", "both"])
def test_t30_rekey_asked_by_ssh(make_pair, targets, way):
    pair = make_pair("alknet+openssh", ssh_flags=("-o", "RekeyLimit=1M", "-v"))
    if way == "both":
        both_ways(pair, targets, 5 * MB)
    else:
        (check_up if way == "up" else check_down)(pair, targets, 40 * MB)
    assert kex_count(pair.client) > 10


@pytest.mark.parametrize("way", ["up", "down", "both"])
def test_t30_rekey_asked_by_sshd(make_pair, targets, way):
    pair = make_pair("openssh+alknet", sshd_config="RekeyLimit 1M\nLogLevel DEBUG1")
    if way == "both":
        both_ways(pair, targets, 5 * MB)
    else:
        (check_up if way == "up" else check_down)(pair, targets, 40 * MB)
    assert kex_count(pair.server) > 10


@pytest.mark.parametrize("client_kind", ["alknet", "openssh"])
def test_t30_rekey_asked_by_alknet_serve(make_pair, targets, client_kind):
    pair = make_pair("alknet+" + client_kind, serve=("--rekey-bytes", "1M"), ssh_flags=("-v",))
    check_up(pair, targets, 20 * MB)
    check_down(pair, targets, 20 * MB)
    both_ways(pair, targets, 10 * MB)
    if client_kind == "openssh":
        assert kex_count(pair.client) > 10


def test_keepalive_is_answered(server, ssh):
    """ssh asks keepalive@openssh.com each second; each is answered (message 81 or 82)."""
    program = ssh.start(server(), "-N", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=100", "-vvv")
    program.wait_log(r"receive packet: type 8[12]", count=3)
    assert program.running()
