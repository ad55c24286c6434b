# SPDX-License-Identifier: MIT OR Apache-2.0
"""The iroh transport against endpoints that are not alknet's: the npm package @number0/iroh, and plain ones of the same crate."""

import subprocess

import pytest

from harness import iroh, net, procs
from harness.waiting import scaled, wait_until

pytestmark = pytest.mark.skipif(not iroh.is_built(), reason="iroh is not built: configure found no cargo that is new enough")


@pytest.fixture
def ends(keys, tmp_path, running_programs):
    return iroh.Ends(keys, tmp_path, running_programs)


def test_npm_peer_hears_our_banner(ends):
    """It opens a stream with our ALPN, speaks as an SSH client does, and hears our server."""
    argv, env = iroh.npm_peer()
    serving = ends.serve()
    done = subprocess.run(
        [*argv, "open", iroh.hex_id(serving.id), serving.udp[0]], capture_output=True, text=True, timeout=scaled(60), env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("heard SSH-2.0-"), done.stdout
    serving.wait_log(r'msg="connection closed" .*')


def test_our_client_reaches_what_is_behind_an_npm_peer(ends, server, targets, tmp_path, running_programs):
    """An SSH server behind a peer of another make: our client logs in and carries bytes, both ways, to their end."""
    argv, env = iroh.npm_peer()
    behind = server()
    peer = procs.Program([*argv, "serve", str(behind.port)], tmp_path / "npm.log", env=env)
    running_programs.append(peer)
    found = peer.wait_log(r"^serving ([0-9a-f]{64}) (\S+)$", 60)
    tunnel = ends.connect(found[1], addresses=[found[2]])
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.source) as sock:
        sock.sendall(b"3000000\n")
        assert len(net.recv_all(sock)) == 3_000_000
    assert peer.lines("from ")


def test_a_peer_that_says_nothing(ends, tmp_path, running_programs):
    """Without a stream, and with one on which only one byte comes: the handshake's deadline ends both."""
    serving = ends.serve("--handshake-timeout", "6")
    for number, more in enumerate(([], ["stream"])):
        silent = iroh.Tool(
            "alknet-iroh-testing", ["hold", iroh.hex_id(serving.id), serving.udp[0], "alknet-ssh", *more], tmp_path / f"hold{number}.log"
        )
        running_programs.append(silent)
        silent.wait_log("^held$")
        silent.wait_log("^closed ", 30)
    serving.wait_log(r'msg="connection closed"', count=2)
    assert serving.metric("alknet_handshake_timeouts_total") == 2


def test_another_protocol_is_no_link(ends, tmp_path, running_programs):
    """A peer that wants another ALPN is told so by TLS, and the supervisor never hears of it."""
    serving = ends.serve()
    other = iroh.Tool("alknet-iroh-testing", ["hold", iroh.hex_id(serving.id), serving.udp[0], "h3"], tmp_path / "hold.log")
    running_programs.append(other)
    assert other.wait(30) == 1
    assert "held" not in other.log()
    assert serving.call("listener.list")["listeners"][0]["accepted"] == 0


def test_a_server_of_another_protocol(ends, tmp_path, running_programs):
    """The id is there and serves something else: the client says that, and does not try to speak SSH."""
    other = iroh.Tool("alknet-iroh-testing", ["raw"], tmp_path / "raw.log")
    running_programs.append(other)
    found = other.wait_log(r"^raw ([0-9a-f]{64}) (\S+)$")
    lost = ends.connect(found[1], addresses=[found[2]], known=False, wait=False)
    lost.expected_status = 1
    assert lost.wait(30) == 1
    assert "serves no alknet" in lost.log(), lost.log()


def test_a_server_that_takes_no_stream(ends, tmp_path, running_programs):
    """It lets us in and no further: that is over when the time to connect is, and the connection with it."""
    other = iroh.Tool("alknet-iroh-testing", ["refuse", "alknet-ssh"], tmp_path / "refuse.log")
    running_programs.append(other)
    found = other.wait_log(r"^refuse ([0-9a-f]{64}) (\S+)$")
    lost = ends.connect(found[1], "--connect-timeout", "10", addresses=[found[2]], known=False, wait=False)
    other.wait_log("^held$")
    other.wait_log("^closed closed by peer: 0", 10)
    lost.expected_status = 1
    assert lost.wait(30) == 1
    assert "no answer in 10 s" in lost.log(), lost.log()


def test_a_flood_of_connections_is_bounded(ends, targets, tmp_path, running_programs):
    """Peers that hold connections open are dropped at max_startups; who is in goes on."""
    serving = ends.serve("--max-startups", "3:100:3")
    tunnel = ends.connect(serving)
    for number in range(6):
        running_programs.append(
            iroh.Tool(
                "alknet-iroh-testing", ["hold", iroh.hex_id(serving.id), serving.udp[0], "alknet-ssh"], tmp_path / f"flood{number}.log"
            )
        )
    serving.wait_log(r'msg="connection refused" .*reason=\S*startups')
    wait_until(lambda: serving.call("status")["startups"] <= 3, 20, "no more than 3 start-ups")
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
