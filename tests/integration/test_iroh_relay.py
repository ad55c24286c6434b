# SPDX-License-Identifier: MIT OR Apache-2.0
"""The iroh transport through a relay (iroh's own code, on loopback), through proxies, and between networks behind NAT."""

import contextlib
import socket

import pytest

from harness import iroh, net, netns, proxies
from harness.net import free_port
from harness.waiting import wait_until

pytestmark = pytest.mark.skipif(not iroh.is_built(), reason="iroh is not built: configure found no cargo that is new enough")

NO_UDP = 'iroh = { bind = "none" }'


@pytest.fixture
def ends(keys, tmp_path, running_programs):
    return iroh.Ends(keys, tmp_path, running_programs)


@pytest.fixture
def relay(tmp_path, running_programs):
    program = iroh.relay(tmp_path)
    running_programs.append(program)
    return program


def asks(tunnel, port):
    with net.socks_connect(tunnel.port, "127.0.0.1", port) as sock:
        net.ask_echo(sock)


def reachable(serving):
    serving.wait_log(r'msg="iroh endpoint is reachable"', 40)
    return serving


def path(serving, kind, timeout=30):
    return wait_until(lambda: (lambda shown: shown if shown.get("path") == kind else None)(serving.session()), timeout, f"a {kind} path")


def test_through_a_relay(ends, relay, targets):
    """Direct ways are closed at both ends: what is left is the relay, which no address has to be told of besides."""
    serving = reachable(ends.serve(relay=relay.url, listen="none"))
    tunnel = ends.connect(serving.id, relay=relay.url, conf=NO_UDP)
    asks(tunnel, targets.echo)
    assert path(serving, "relay")["path_via"].rstrip("/") == relay.url
    assert tunnel.lines("iroh endpoint", "udp=none") and serving.lines("iroh endpoint", "udp=none")
    with net.socks_connect(tunnel.port, "127.0.0.1", targets.source) as sock:
        sock.sendall(b"5000000\n")
        assert len(net.recv_all(sock)) == 5_000_000


def test_relay_beside_discovery_in_the_local_network(ends, relay, targets):
    """mDNS is one more way to find a server, which the client's own relay stays."""
    serving = reachable(ends.serve(relay=relay.url, listen="none"))
    asks(ends.connect(serving.id, "--iroh-discovery", "mdns", relay=relay.url, conf=NO_UDP), targets.echo)
    assert path(serving, "relay")["path_via"].rstrip("/") == relay.url


def test_relay_first_then_direct(ends, relay, targets):
    """The client knows the id and the relay alone; the two find the direct way, and the session moves to it."""
    serving = reachable(ends.serve(relay=relay.url))
    tunnel = ends.connect(serving.id, relay=relay.url)
    asks(tunnel, targets.echo)
    # Which of this machine's addresses, the two find out for themselves.
    host, _, _ = path(serving, "direct")["path_via"].rpartition(":")
    socket.create_server((host.strip("[]"), 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    asks(tunnel, targets.echo)
    assert tunnel.call("status")["reconnects"] == 0


def test_relay_is_restarted(ends, relay, targets, tmp_path, running_programs):
    """It goes in the middle of a session that has no other way, and comes back: the session goes on, or another begins."""
    serving = reachable(ends.serve(relay=relay.url, listen="none"))
    tunnel = ends.connect(serving.id, relay=relay.url, conf=NO_UDP)
    asks(tunnel, targets.echo)
    relay.kill()
    serving.wait_log(r'msg="iroh endpoint is not reachable through a relay any more"', 60)
    running_programs.append(iroh.relay(tmp_path, relay.port, "relay again"))

    def answers():
        try:
            asks(tunnel, targets.echo)
        except (OSError, EOFError, net.ProxyRefused):
            return False
        return True

    wait_until(answers, 90, "an answer through the relay that came back")
    serving.wait_log(r'msg="iroh endpoint is reachable"', count=2)


def test_relay_goes_while_the_path_is_direct(ends, relay, targets):
    serving = reachable(ends.serve(relay=relay.url))
    tunnel = ends.connect(serving.id, relay=relay.url)
    path(serving, "direct")
    relay.kill()
    asks(tunnel, targets.echo)
    assert tunnel.call("status")["reconnects"] == 0


def test_starts_without_a_network(ends, targets, tmp_path, running_programs):
    """Nothing answers where the relay should be: the server starts, says so, and is reachable when the relay is there."""
    port = free_port()
    serving = ends.serve(relay=f"http://127.0.0.1:{port}", listen="none")
    serving.wait_log(r'msg="iroh endpoint is not reachable through a relay yet"', 40)
    running_programs.append(iroh.relay(tmp_path, port))
    serving.wait_log(r'msg="iroh endpoint is reachable"', 90)
    asks(ends.connect(serving.id, relay=f"http://127.0.0.1:{port}"), targets.echo)


@pytest.mark.parametrize("kind", ["socks5", "http"])
@pytest.mark.parametrize("whose", ["client", "server"])
def test_through_a_proxy(ends, relay, targets, tmp_path, running_programs, kind, whose):
    """All goes to the relay through the proxy, and no UDP is bound, whatever the other end would take."""
    if kind == "socks5":
        proxy = proxies.microsocks(tmp_path, "anna", "secret")
    else:
        proxy = proxies.tinyproxy(tmp_path, ("anna", "secret"))
    running_programs.append(proxy)
    conf = f'proxy = "{kind}://anna:secret@127.0.0.1:{proxy.port}"'
    serving = reachable(ends.serve(relay=relay.url, conf=conf if whose == "server" else None))
    tunnel = ends.connect(serving.id, relay=relay.url, addresses=[], conf=conf if whose == "client" else None)
    ours = serving if whose == "server" else tunnel
    assert ours.lines("iroh endpoint", "udp=none")
    if whose == "client":  # a server's destinations go through it too, which the proxy may not allow
        asks(tunnel, targets.echo)
    assert path(serving, "relay")
    seen = proxy.log() if kind == "socks5" else (tmp_path / "tinyproxy.txt").read_text()
    assert str(relay.port) in seen or "127.0.0.1" in seen


def test_the_proxy_is_not_there(ends, relay, tmp_path):
    """It is the only way: nothing goes past it."""
    serving = reachable(ends.serve(relay=relay.url))
    lost = ends.connect(
        serving, "--connect-timeout", "5", relay=relay.url, conf=f'proxy = "socks5://127.0.0.1:{free_port()}"', wait=False
    )
    lost.expected_status = 1
    assert lost.wait(60) == 1
    assert "cannot connect to" in lost.log()
    assert serving.call("listener.list")["listeners"][0]["accepted"] == 0


ROUTER = """
table ip nat {
    chain post { type nat hook postrouting priority 100; oifname "wan" masquerade; }
}
table ip filter {
    chain forward { type filter hook forward priority 0; policy drop; iifname "lan" accept; ct state established,related accept; }
    chain input { type filter hook input priority 0; policy drop; ct state established,related accept; iifname "lo" accept; }
}
"""


class Networks:
    """A relay's network, and two hosts, each behind a router of its own that lets nothing in."""

    def __init__(self, stack):
        self.middle = stack.enter_context(contextlib.closing(netns.Namespace()))
        self.forward(self.middle)
        self.hosts = [self.host(stack, number) for number in (1, 2)]

    @staticmethod
    def forward(place):
        place.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    @staticmethod
    def cable(near, far, near_name, far_name, network):
        """Between two places: .1 is the far end, .254 the near one, which is the far one's way out."""
        near.run("ip", "link", "add", near_name, "type", "veth", "peer", "name", far_name, "netns", str(far.holder.pid))
        near.run("ip", "addr", "add", f"{network}.254/24", "dev", near_name)
        near.run("ip", "link", "set", near_name, "up")
        far.run("ip", "addr", "add", f"{network}.1/24", "dev", far_name)
        far.run("ip", "link", "set", far_name, "up")
        far.run("ip", "route", "add", "default", "via", f"{network}.254")

    def host(self, stack, number):
        router = stack.enter_context(contextlib.closing(netns.Namespace()))
        host = stack.enter_context(contextlib.closing(netns.Namespace()))
        self.cable(self.middle, router, f"to{number}", "wan", f"10.0.{number}")
        self.cable(router, host, "lan", "eth0", f"192.168.{number}")
        self.forward(router)
        router.firewall(ROUTER)
        return host


@pytest.fixture
def networks():
    with contextlib.ExitStack() as stack:
        yield Networks(stack)


def test_between_two_networks_behind_nat(ends, networks, tmp_path, running_programs):
    """Neither end can be reached from outside, and they have no network in common: the relay carries the session."""
    relay = iroh.relay(tmp_path, host="10.0.1.254", wrap=networks.middle.wrap)
    running_programs.append(relay)
    here, there = networks.hosts
    serving = reachable(ends.serve(relay=relay.url, listen=None, wrap=there.wrap))
    tunnel = ends.connect(serving.id, relay=relay.url, wrap=here.wrap)
    with there.inside():
        target = socket.create_server(("127.0.0.1", 0))
    with target:
        with here.inside():
            sock = net.socks_connect(tunnel.port, "127.0.0.1", target.getsockname()[1])
        with sock, target.accept()[0] as asked:
            sock.sendall(b"through two NATs\n")
            assert net.recv_line(asked) == b"through two NATs\n"
            asked.sendall(b"and back\n")
            assert net.recv_line(sock) == b"and back\n"
    assert path(serving, "relay")["path_via"].rstrip("/") == relay.url
    with pytest.raises(OSError), there.inside():
        socket.create_connection(("192.168.1.1", tunnel.port), 1).close()


def test_found_in_the_local_network(ends, namespace):
    """With mDNS the id alone is enough: no relay, no address, no name server."""
    namespace.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "nobody")
    namespace.run("ip", "link", "set", "nobody", "up")
    namespace.run("ip", "addr", "add", "10.9.0.1/24", "dev", "lan")
    namespace.run("ip", "link", "set", "lan", "up", "multicast", "on")
    namespace.run("ip", "route", "add", "default", "dev", "lan")
    serving = ends.serve("--iroh-discovery", "mdns", listen=None, wrap=namespace.wrap)
    ends.connect(serving.id, "--iroh-discovery", "mdns", wrap=namespace.wrap)
    assert path(serving, "direct")["path_via"]
