# SPDX-License-Identifier: MIT OR Apache-2.0
"""Metrics, health and what serves them: read as Prometheus does, by its own parser."""

import http.client
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness import net, procs
from harness.waiting import scaled, wait_until

SOURCE = Path(os.environ.get("ALKNET_SRCDIR", Path(__file__).resolve().parents[2]))
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def documented():
    """Name to (kind, labels, who), of docs/METRICS.md."""
    rows = re.findall(r"^\| `(alknet_\w+)` \| (\w+) \| (\w+) \| ?([^|]*?) ?\| ", (SOURCE / "docs/METRICS.md").read_text(), re.M)
    return {name: (kind, {label for label in labels.split(", ") if label}, who) for name, kind, who, labels in rows}


def metrics_port(running):
    return int(running.wait_log(r'(?:msg="metrics served" address=|alknet: metrics on )"?[^"\s]*:(\d+)')[1])


@pytest.fixture
def observed(server):
    def start(**options):
        running = server("--metrics-listen", "127.0.0.1:0", **options)
        running.http = metrics_port(running)
        return running

    return start


def ask(port, path, method="GET"):
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=scaled(20))
    try:
        link.request(method, path)
        answer = link.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        link.close()


def families(text):
    """Every series, by the name that the document has, after what a strict reader of the format would refuse."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert name not in found, f"{name} twice"
        assert family.documentation and family.samples, name
        found[name] = family
    keys = [(s.name, tuple(sorted(s.labels.items()))) for f in found.values() for s in f.samples]
    assert len(keys) == len(set(keys)), "a series twice"
    typed = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    assert typed == set(re.findall(r"^# HELP (\S+) ", text, re.M)) == set(found)
    return found


def check_documented(found, who, besides=()):
    table = documented()
    for name, family in found.items():
        kind, labels, _ = table[name]
        assert family.type == kind, name
        assert {label for sample in family.samples for label in sample.labels} == labels, name
    wanted = {name for name, (_, _, whose) in table.items() if whose in ("both", who, *besides)}
    assert wanted <= set(found), wanted - set(found)


def value(found, name):
    (sample,) = found[name].samples
    return sample.value


def durations(found, of):
    """How many there were, of each bucket by its end, and for how many seconds in all."""
    name = f"alknet_{of}_duration_seconds"
    samples = found[name].samples
    buckets = {float(s.labels["le"]): s.value for s in samples if s.name == name + "_bucket"}
    (count,) = (s.value for s in samples if s.name == name + "_count")
    (total,) = (s.value for s in samples if s.name == name + "_sum")
    assert list(buckets) == sorted(buckets) and list(buckets.values()) == sorted(buckets.values()), name
    assert buckets[float("inf")] == count, name
    return count, buckets, total


def test_of_the_server(observed, login, targets, workers):
    """What Prometheus reads is what the admin socket says, what the document has, and there from the start."""
    serving = observed(workers=workers)
    status, text, headers = ask(serving.http, "/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = families(text)
    check_documented(found, "serve")
    assert value(found, "alknet_sessions_total") == 0
    assert {s.labels["reason"] for s in found["alknet_links_refused_total"].samples} >= {"penalty", "max_startups"}
    (build,) = found["alknet_build_info"].samples
    assert build.value == 1 and re.fullmatch(r"\d+\.\d+\.\d+", build.labels["libssh"])
    wire = login(serving)
    wire.open_channel(1, "127.0.0.1", targets.echo)
    again = families(ask(serving.http, "/metrics")[1])
    assert value(again, "alknet_sessions_authenticated") == 1 and value(again, "alknet_channels") == 1
    for of in ("handshake", "open"):
        count, _, total = durations(again, of)
        assert count == 1 and 0 < total < scaled(30), of
    printed = families(serving.call("metrics")["text"])
    assert set(printed) == set(again)


def test_of_the_plugins(keys, tmp_path, running_programs):
    from harness.configured import Configured

    configured = Configured(keys, tmp_path, running_programs, workers=1)
    try:
        found = families(configured.server.call("metrics")["text"])
        plugins = [p["name"] for p in configured.server.call("plugin.list")["plugins"]]
        check_documented(found, "serve", besides={"bus", "secret"} & set(plugins))
    finally:
        configured.close()


def test_of_the_client(observed, client, tmp_path):
    serving = observed()
    socket_path = tmp_path / "client.sock"
    connecting = client(serving, "--metrics-listen", "127.0.0.1:0", "--admin-socket", socket_path)
    port = metrics_port(connecting)
    found = families(ask(port, "/metrics")[1])
    check_documented(found, "connect")
    assert value(found, "alknet_client_up") == 1
    with pytest.raises(net.ProxyRefused):
        net.socks_connect(connecting.port, "127.0.0.1", net.free_port())
    found = families(ask(port, "/metrics")[1])
    assert value(found, "alknet_channels_refused_total") == value(found, "alknet_channels_total") == 0
    assert ask(port, "/readyz")[:2] == (200, "ok\n")
    serving.stop()
    wait_until(lambda: ask(port, "/readyz")[0] == 503, 20, "the client to know that the server is gone")
    assert ask(port, "/readyz")[1] == "there is no session\n"
    assert ask(port, "/livez")[0] == 200
    assert health(connecting) == (3, "there is no session")


@pytest.mark.parametrize("peer", ["alknet", "sshd"])
def test_durations_at_the_client(libssh_forgets, server, sshd, client, tmp_path, targets, peer):
    """One for each login and for each open that was answered, whatever the answer; why one was refused is no open."""
    serving = server() if peer == "alknet" else sshd()
    user = {} if peer == "alknet" else {"user": serving.user}
    forward = f"127.0.0.1:0:127.0.0.1:{targets.echo}"
    flags = ["--forward", forward, "--remote-forward", forward, "--metrics-listen", "127.0.0.1:0", "--admin-socket", tmp_path / "client.sock"]
    connecting = client(serving, *flags, **user)
    port = metrics_port(connecting)

    def seen(of):
        return durations(families(ask(port, "/metrics")[1]), of)

    count, _, total = seen("handshake")
    assert count == 1 and 0 < total < scaled(30)
    assert seen("open")[0] == 0
    for n in range(3):
        with net.socks_connect(connecting.port, "127.0.0.1", targets.echo) as sock:
            net.ask_echo(sock)
        with pytest.raises(net.ProxyRefused):
            net.socks_connect(connecting.port, "127.0.0.1", net.free_port())
        assert seen("open")[0] == 2 * (n + 1)
    with net.connect(connecting.forward_port()) as sock:
        net.ask_echo(sock)
        assert seen("open")[0] == 7

    def held():
        return next((row["port"] for row in connecting.call("forward.list")["forwards"] if row.get("state") == "held"), None)

    with net.connect(wait_until(held, 10, "the server to listen")) as sock:
        net.ask_echo(sock)
        assert seen("open")[0] == 8 and 0 < seen("open")[2] < scaled(30)
    connecting.call("reconnect")
    wait_until(lambda: seen("handshake")[0] == 2, 20, "another login")
    serving.stop()
    connecting.call("reconnect")
    wait_until(lambda: value(families(ask(port, "/metrics")[1]), "alknet_client_failures_total") > 0, 20, "an attempt that fails")
    assert seen("handshake")[0] == 2 and seen("open")[0] == 8
    for of in ("handshake", "open"):
        assert seen(of) == durations(families(connecting.call("metrics")["text"]), of)


def test_an_open_that_the_application_gave_up(server, client, tmp_path, targets):
    """It is counted when the server answers it, with all the time that took."""
    connecting = client(server("--connect-timeout", "15"), "--metrics-listen", "127.0.0.1:0", "--admin-socket", tmp_path / "client.sock")
    port = metrics_port(connecting)
    with net.connect(connecting.port) as sock:
        sock.sendall(b"\x05\x01\x00\x05\x01\x00" + net.socks_address("127.0.0.1", "name") + targets.blackhole.to_bytes(2, "big"))
        wait_until(lambda: connecting.call("status")["channels"] == 1, 20, "the open to be asked for")
    wait_until(lambda: connecting.call("status")["channels"] == 0, 20, "the server's answer")
    count, buckets, _ = durations(families(ask(port, "/metrics")[1]), "open")
    assert count == 1 and buckets[0.5] == 0


def health(running):
    done = subprocess.run(
        [procs.alknet_admin(), "health", "--json", "--socket", str(running.admin)], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=scaled(20), env=procs.environment(), check=False,
    )
    return done.returncode, json.loads(done.stdout)["reason"] if done.stdout else None


def test_draining_is_not_ready(observed, login):
    serving = observed()
    wire = login(serving)
    assert ask(serving.http, "/readyz")[:2] == (200, "ok\n") and health(serving) == (0, "")
    serving.call("drain")
    assert ask(serving.http, "/readyz")[:2] == (503, "draining\n") and health(serving) == (3, "draining")
    assert ask(serving.http, "/livez")[0] == 200
    assert value(families(ask(serving.http, "/metrics")[1]), "alknet_draining") == 1
    wire.close()
    assert serving.wait() == 0
    assert health(serving) == (1, None)


def test_what_is_no_request(observed):
    port = observed().http
    assert ask(port, "/metrics", "POST")[0] == 405
    assert ask(port, "/nothing")[0] == 404
    status, text, headers = ask(port, "/metrics", "HEAD")
    assert status == 200 and text == "" and int(headers["Content-Length"]) > 1000
    for sent, wanted in [
        (b"SSH-2.0-OpenSSH_9.2\r\n", b"400"), (b"\x16\x03\x01\x02", b"400"), (b"GET /livez HTTP/2.0\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\n\r\n", b"400"), (b"GET /livez HTTP/1.0\r\n\r\n", b"200"), (b"GET /livez?a=b HTTP/1.1\nHost: x\n\n", b"200"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n", b"431"), (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000, b"431"),
        (b"GET /" + b"a" * 500 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    ]:
        with net.connect(port) as sock:
            sock.sendall(sent)
            assert net.recv_all(sock).startswith(b"HTTP/1.1 " + wanted), sent[:40]


def test_a_byte_at_a_time(observed):
    with net.connect(observed().http) as sock:
        for byte in GET:
            sock.sendall(bytes([byte]))
        assert net.recv_all(sock).startswith(b"HTTP/1.1 200")


def test_who_holds_connections_keeps_nobody_out(observed):
    """64 connections at most; the oldest goes; a scrape is answered meanwhile; what was held is given back."""
    serving = observed()
    before = len(procs.open_files(serving.pid))
    held = []
    try:
        for _ in range(150):
            held.append(net.connect(serving.http))
            held[-1].sendall(b"GET /met")
        assert ask(serving.http, "/livez")[0] == 200
        assert len(procs.open_files(serving.pid)) <= before + 64
        held[0].settimeout(scaled(20))
        try:
            assert held[0].recv(1) == b""
        except ConnectionResetError:
            pass
    finally:
        for sock in held:
            sock.close()
    wait_until(lambda: len(procs.open_files(serving.pid)) <= before, 20, "the descriptors to be closed")


def test_a_slow_client_is_given_up(observed):
    """10 s for a request, from its first byte to the last."""
    serving = observed()
    with net.connect(serving.http, timeout=scaled(30)) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\n")
        assert net.recv_all(sock) == b""


def test_an_address_in_use_is_an_error(server, observed):
    port = observed().http
    other = server("--metrics-listen", f"127.0.0.1:{port}", wait=False)
    other.expected_status = 2
    assert other.wait() == 2
    assert f"metrics_listen: cannot listen on 127.0.0.1:{port}" in other.log()


def test_an_address_that_is_none(server):
    other = server("--metrics-listen", "127.0.0.1:99999", wait=False)
    other.expected_status = 2
    assert other.wait() == 2
    assert "--metrics-listen" in other.log()


def test_the_dashboard_asks_for_what_there_is():
    """Every metric that conf/grafana/alknet.json names exists, and every label that it shows."""
    dashboard = json.loads((SOURCE / "conf/grafana/alknet.json").read_text())
    table = documented()
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(targets) > 20
    for target in targets:
        names = re.findall(r"\balknet_\w+", target["expr"])
        assert names
        for name in names:
            kind, labels, _ = table.get(name) or table[re.sub(r"_(bucket|sum|count)$", "", name)]
            assert (kind == "counter") == bool(re.search(rf"(rate|increase)\({name}[{{\[]", target["expr"])) or kind == "histogram"
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - {"instance"}
            assert shown <= set().union(*(table[n][1] for n in names if n in table)), target["legendFormat"]
    assert "alknet_build_info" in dashboard["templating"]["list"][1]["query"] and "alknet_build_info" in table
