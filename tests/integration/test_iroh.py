# SPDX-License-Identifier: MIT OR Apache-2.0
"""The iroh transport: two ends of ours, directly."""

import concurrent.futures
import os
import signal
import socket
import stat
import subprocess

import pytest

from harness import iroh, net, procs
from harness.waiting import Settled, scaled, wait_until

pytestmark = pytest.mark.skipif(not iroh.is_built(), reason="iroh is not built: configure found no cargo that is new enough")

BULK = 40_000_000


@pytest.fixture
def ends(keys, tmp_path, running_programs):
    return iroh.Ends(keys, tmp_path, running_programs)


def asks(tunnel, port):
    with net.socks_connect(tunnel.port, "127.0.0.1", port) as sock:
        net.ask_echo(sock)


def path_of(serving, session=1):
    return wait_until(lambda: (lambda shown: shown if "path" in shown else None)(serving.session(session)), 10, "the path of a session")


def is_here(address):
    """Is it one of this machine's? The client's end is on all of them, and iroh takes the one that answers first."""
    host = address.rpartition(":")[0].strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
    return True


def test_direct(ends, targets):
    """The id is shown where an address would be; the session shows its peer and its path; nobody but the helper has iroh."""
    serving = ends.serve()
    assert serving.call("listener.list")["listeners"][0]["address"] == serving.id
    tunnel = ends.connect(serving)
    asks(tunnel, targets.echo)
    client_id = tunnel.wait_log(r'msg="iroh endpoint" id=(\S+)')[1]
    shown = path_of(serving)
    assert shown["transport"] == "iroh" and shown["remote_addr"] == client_id and shown["alpn"] == "alknet-ssh"
    assert shown["path"] == "direct" and is_here(shown["path_via"]) and shown["rtt"] > 0
    status = wait_until(lambda: (lambda told: told if "path" in told else None)(tunnel.call("status")), 10, "the client's path")
    assert status["server"] == serving.id and status["path"] == "direct" and status["path_via"] == serving.udp[0]
    helper = serving.helper()
    if os.geteuid() == 0:
        assert iroh.other_user(helper) != 0
    for pid in procs.tree(serving.pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            threads = int(next(line for line in file if line.startswith("Threads:")).split()[1])
        assert pid == helper or threads == 1
    assert serving.lines("connection opened", f"remote_addr={client_id}", "transport=iroh")


def test_watch_tells_paths(ends):
    serving = ends.serve()
    with procs.AdminClient(serving.admin) as watcher:
        watcher.request("watch")
        ends.connect(serving)

        def told():
            message = watcher.read()
            event = message.get("params") or {}
            return event if event.get("event") == "link.path" else None

        event = wait_until(told, 20, "the path of the link")
    assert event["session"] == 1 and event["path"] == "direct" and event["transport"] == "iroh" and event["rtt"] > 0


def test_the_id_stays(ends, targets, tmp_path):
    """It is kept in a file that nobody else may read; both of its forms are taken."""
    first = ends.serve()
    assert stat.S_IMODE((tmp_path / "iroh_key").stat().st_mode) == 0o600
    first.finish()
    again = ends.serve()
    assert again.id == first.id
    tunnel = ends.connect(iroh.hex_id(again.id), addresses=again.udp)
    asks(tunnel, targets.echo)
    other = ends.serve(key=tmp_path / "other_key")
    assert other.id != first.id


@pytest.mark.skipif(not iroh.is_built("secret"), reason="the secret service is not built")
def test_the_key_out_of_the_secret_service(ends, server, tmp_path):
    """What it derives for an endpoint is a key file, and the endpoint's id is the public key that it shows."""
    keeper = server()
    keeper.call("secret.unlock", mnemonic="legal winner thank year wave sausage worth useful legal winner thank yellow")
    derived = keeper.call("secret.derive", path="m/74'/0'/0'/0'", private=True)
    key = tmp_path / "derived_key"
    key.write_text(derived["private_key"] + "\n")
    key.chmod(0o600)
    assert iroh.hex_id(ends.serve(key=key).id) == derived["public_key"]


POLICY = """
return {
    on_link = function(link)
        if link.peer_id == "%s" then return "allow" end
        return "deny", "I do not know you"
    end,
    on_auth = function(request)
        if request.link.peer_id == "%s" then return "allow", { id = "by-endpoint" } end
        return "deny", "no"
    end,
}
"""


def test_policy_admits_by_the_peer_alone(ends, targets, tmp_path):
    """A client with a key of its own has an id that stays; the policy lets in who has it, whatever SSH key it shows."""
    key = tmp_path / "client_key"
    stranger = ends.serve(key=key)  # makes the key, and says what its id is
    known = stranger.id
    stranger.finish()
    serving = ends.serve(policy=POLICY % (known, known), authorized=False)
    tunnel = ends.connect(serving, "--iroh-key", key)
    asks(tunnel, targets.echo)
    assert serving.session()["identity"] == "by-endpoint"
    refused = ends.connect(serving, wait=False)
    refused.expected_status = None
    serving.wait_log(r"I do not know you|denied")
    wait_until(lambda: not refused.running(), 20, "the client that is not known to give up")
    assert len(serving.sessions()) == 1


def test_bulk_both_ways(ends, targets):
    tunnel = ends.connect(ends.serve())
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.discard) as sock:
        for piece in net.pattern(BULK):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        assert int(net.recv_line(sock)) == BULK
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.source) as sock:
        sock.sendall(b"%d\n" % BULK)
        assert len(net.recv_all(sock, BULK + 1)) == BULK


def test_a_stalled_reader_fills_nothing(ends, targets):
    """10 GB are offered and not read: neither the processes nor the helpers hold more than their windows."""
    serving = ends.serve()
    tunnel = ends.connect(serving)
    asks(tunnel, targets.echo)
    before = procs.memory(serving.pid), procs.memory(tunnel.pid)
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.source) as sock:
        sock.sendall(b"%d\n" % 10_000_000_000)
        wait_until(Settled(lambda: procs.memory(serving.pid) + procs.memory(tunnel.pid), 30, 1 << 17), 60, "the stream to stop")
        grown = [now - old for now, old in zip((procs.memory(serving.pid), procs.memory(tunnel.pid)), before)]
        assert max(grown) < 32 << 20, f"grew by {grown}"
        asks(tunnel, targets.echo)


def test_one_endpoint_many_links(ends, targets):
    serving = ends.serve("--max-startups", "100:30:100")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        tunnels = list(pool.map(lambda _: ends.connect(serving), range(6)))
    for tunnel in tunnels:
        asks(tunnel, targets.echo)
    assert len(serving.sessions()) == 6
    assert len({one["remote_addr"] for one in serving.sessions()}) == 6
    tunnels[0].finish()
    wait_until(lambda: len(serving.sessions()) == 5, 10, "the session to go with its link")


def test_limits_count_ids(ends, targets, tmp_path):
    serving = ends.serve("--max-connections-per-ip", "1")
    one = ends.connect(serving, "--iroh-key", tmp_path / "mine")
    asks(one, targets.echo)
    asks(ends.connect(serving), targets.echo)
    again = ends.connect(serving, "--iroh-key", tmp_path / "mine", wait=False)
    again.expected_status = None
    serving.wait_log(r'msg="connection refused" .*reason=\S+')


@pytest.mark.parametrize("whose", ["server", "client"])
def test_helper_dies(ends, targets, whose):
    """It is started again with the id and the port that it had; the client connects again."""
    serving = ends.serve()
    tunnel = ends.connect(serving)
    asks(tunnel, targets.echo)
    ours = serving if whose == "server" else tunnel
    pid = int(ours.wait_log(r'msg="iroh endpoint" .*pid=(\d+)')[1])
    os.kill(pid, signal.SIGKILL)
    before = serving.udp
    if whose == "server":
        serving.find_udp(count=2)
        assert serving.udp == before
        assert serving.lines("iroh endpoint ended")
    ours.wait_log(rf'msg="iroh endpoint" id=\S+ .*pid=(?!{pid}\b)\d+', 30)
    tunnel.wait_log(r'msg="session up"', 40, count=2)
    asks(tunnel, targets.echo)
    assert serving.call("listener.list")["listeners"][0]["address"] == serving.id


def test_no_descriptor_or_process_is_left(ends, targets):
    serving = ends.serve()
    tunnel = ends.connect(serving)
    asks(tunnel, targets.echo)
    tunnel.finish()
    wait_until(lambda: not serving.sessions(), 10, "the session to end")
    helper = serving.helper()
    if os.geteuid() == 0:
        count = len(procs.open_files(helper))
        for _ in range(3):
            one = ends.connect(serving)
            asks(one, targets.echo)
            one.finish()
        wait_until(lambda: not serving.sessions(), 10, "the sessions to end")
        wait_until(lambda: len(procs.open_files(helper)) <= count, 10, "the descriptors to be closed")
    serving.finish()
    wait_until(lambda: not procs.alive(helper), 5, "the helper to end with its server")


def test_reload(ends, targets, tmp_path):
    """The same settings keep the endpoint and its links; others need a restart, which is said."""
    conf = tmp_path / "reload.conf"
    conf.write_text("return { keepalive = 20 }\n")
    serving = ends.serve("-c", conf)
    tunnel = ends.connect(serving)
    asks(tunnel, targets.echo)
    helper = serving.helper()
    conf.write_text("return { keepalive = 21 }\n")
    assert serving.call("reload")["restart_needed"] == []
    asks(tunnel, targets.echo)
    assert procs.alive(helper) and serving.session()["state"] == "open"
    conf.write_text('return { keepalive = 21, iroh = { discovery = { "mdns" } } }\n')
    assert {"option": "iroh"} in serving.call("reload")["restart_needed"]
    asks(tunnel, targets.echo)
    asks(ends.connect(serving), targets.echo)


def fails(command, *flags, env=None):
    """What `alknet COMMAND` says when it does not start; gives (status, stderr)."""
    done = subprocess.run(
        [procs.alknet(), command, *map(str, flags)], capture_output=True, text=True, timeout=scaled(60), env=env or procs.environment(),
        check=False,
    )
    return done.returncode, done.stderr


GOOD = "y" * 52


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--peer", "nonsense"], ["peer", "no endpoint id", "52 characters"]),
        (["--peer", "v" * 52], ["peer", "no endpoint id"]),
        (["--peer", "0" * 63], ["peer", "no endpoint id"]),
        (["--peer", GOOD, "--iroh-relay", "relay.example"], ["iroh_relay", "https://HOST"]),
        (["--peer", GOOD, "--iroh-relay", "https://"], ["iroh_relay", "not a URL"]),
        (["--peer", GOOD, "--iroh-relay", "https://a b"], ["iroh_relay", "not a URL"]),
        (["--peer", GOOD, "--iroh-relay", "none", "--iroh-relay", "https://a"], ["iroh_relay", "none stands beside"]),
        (["--peer", GOOD, "--iroh-discovery", "dht"], ["iroh-discovery", "n0"]),
        (["--peer", GOOD, "--iroh-discovery", "n0", "--iroh-discovery", "none"], ["iroh_discovery", "none stands beside"]),
        (["--peer", GOOD, "--peer-address", "localhost:1"], ["peer_address", "IP address"]),
        (["--peer", GOOD, "--peer-address", "192.0.2.1"], ["peer_address"]),
        (["--peer", GOOD, "--peer-address", "192.0.2.1:0"], ["peer_address"]),
        (["--peer", GOOD, "--proxy", "socks4://127.0.0.1:1"], ["--proxy", "socks5"]),
        (["--server", "host.example"], ["peer", "endpoint id"]),
        (["--peer", GOOD, "--server", "host.example"], ["--peer", "beside server"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_bad_options_of_connect(keys, flags, words):
    status, said = fails("connect", "--transport", "iroh", "--identity", keys.path("user"), *flags)
    assert status == 2, said
    for word in words:
        assert word in said, said


def test_peer_is_for_transports_that_know_ids(keys):
    status, said = fails("connect", "--identity", keys.path("user"), "--peer", GOOD)
    assert status == 2 and "--peer" in said and "tcp" in said, said


def test_bad_keys_and_places_of_serve(ends, keys, tmp_path):
    base = ["--transport", "iroh", "--key", keys.path("host"), "--authorized-keys", keys.authorized, "--admin-socket", "none"]
    key = tmp_path / "key"
    key.write_text("not hex\n")
    key.chmod(0o600)
    status, said = fails("serve", *base, "--iroh-relay", "none", "--iroh-key", key)
    assert status == 2 and "iroh_key" in said and "64 characters" in said, said
    key.write_text("11" * 32 + "\n")
    key.chmod(0o644)
    status, said = fails("serve", *base, "--iroh-relay", "none", "--iroh-key", key)
    assert status == 2 and "chmod 600" in said, said
    link = tmp_path / "link"
    link.symlink_to(key)
    key.chmod(0o600)
    status, said = fails("serve", *base, "--iroh-relay", "none", "--iroh-key", link)
    assert status == 2 and "iroh_key" in said, said
    status, said = fails("serve", *base, "--iroh-relay", "none", "--iroh-key", tmp_path / "no" / "dir")
    assert status == 2 and "iroh_key" in said and "cannot be made" in said, said
    serving = ends.serve()
    status, said = fails("serve", *base, "--iroh-relay", "none", "--iroh-key", key, "--listen", serving.udp[0])
    assert status == 2 and serving.udp[0] in said and "in use" in said.lower(), said
    status, said = fails("serve", *base, "--iroh-relay", "none", "--iroh-key", key, "--listen", "somewhere")
    assert status == 2 and "listen" in said and "somewhere" in said, said


def test_default_listener_is_one(ends):
    """Without --listen there is one endpoint on every address, and not a TCP port's two."""
    serving = ends.serve(listen=None)
    assert len(serving.call("listener.list")["listeners"]) == 1
    assert any(udp.startswith("0.0.0.0:") for udp in serving.udp)


def test_workers_in_the_process(ends, targets):
    serving = ends.serve("--workers", "0")
    tunnel = ends.connect(serving)
    asks(tunnel, targets.echo)
    assert path_of(serving)["path"] == "direct"


def test_nobody_there(ends):
    """An id that nobody has, and addresses where somebody else is: a sentence, within the time that was given."""
    serving = ends.serve()
    for peer, addresses in ((GOOD, serving.udp), (serving.id, ["127.0.0.1:9"])):
        lost = ends.connect(peer, "--connect-timeout", "3", addresses=addresses, known=False, wait=False)
        lost.expected_status = 1
        assert lost.wait(30) == 1
        assert "cannot connect to" in lost.log(), lost.log()
    lost = ends.connect(serving.id, addresses=[], known=False, wait=False)
    lost.expected_status = 1
    assert lost.wait(30) == 1
    assert "nothing says where the peer is" in lost.log()


def test_help_and_manual_know_the_options():
    for command, flags in (("serve", ["--iroh-relay", "--iroh-key"]), ("connect", ["--peer", "--peer-address", "--iroh-relay"])):
        said = subprocess.run([procs.alknet(), command, "--help"], capture_output=True, text=True, check=True).stdout
        for flag in flags:
            assert flag in said


def test_upgrade_is_refused(ends, targets):
    """The endpoint is a library's own: the answer says what to do instead, and the tunnel goes on."""
    serving = ends.serve()
    tunnel = ends.connect(serving)
    with pytest.raises(procs.AdminError, match="the transport iroh cannot hand over its listener .*: restart the server instead"):
        serving.call("upgrade")
    asks(tunnel, targets.echo)
