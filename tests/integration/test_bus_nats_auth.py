# SPDX-License-Identifier: MIT OR Apache-2.0
"""NATS behind TLS and a login: with the real nats-server, which is killed and started again in the middle."""

import contextlib
import os
import socket
import threading

import pytest

from harness import natsauth, natsserver, procs
from harness.configured import Configured
from harness.tlscerts import Authority
from harness.waiting import wait_until
from test_bus import Bus

pytestmark = pytest.mark.skipif(
    natsserver.program() is None or not os.path.exists(os.path.join(procs.plugin_dir(), "alknet-nats")),
    reason="no nats-server, or built without libnats")

PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("good", "localhost", "DNS:localhost,IP:127.0.0.1")
    made.issue("other", "other.example")
    return made


@pytest.fixture
def place(keys, tmp_path, running_programs):
    made, started = [], []

    class Place:
        def nats(self, config):
            started.append(natsserver.NatsServer(tmp_path, config=config))
            return started[-1]

        def server(self, name, url, **bus):
            directory = tmp_path / name
            directory.mkdir()
            conf = Configured(keys, directory, running_programs, workers=1, bus={"backend": url, **bus})
            made.append(conf)
            return Bus(conf)

    yield Place()
    for one in made:
        one.close()
    for one in started:
        one.close()


def tls(authority, name="good"):
    return f'tls {{ cert_file: "{authority.path(name + ".pem")}", key_file: "{authority.path(name + ".key")}" }}\n'


@pytest.mark.parametrize("way", ["password", "token", "creds"])
def test_login_over_tls_and_again_after_the_end(place, authority, tmp_path, way):
    url, more = "tls://127.0.0.1:", {"backend_ca": authority.ca}
    if way == "password":
        config, url = f'authorization {{ user: mesh, password: "{PASSWORD}" }}\n', f"tls://mesh:{PASSWORD}@127.0.0.1:"
    elif way == "token":
        config, url = f'authorization {{ token: "{PASSWORD}" }}\n', f"tls://{PASSWORD}@127.0.0.1:"
    else:
        operator = natsauth.Operator()
        config = operator.config
        more["backend_credentials"] = operator.creds(tmp_path / "user.creds")  # for its owner alone
    nats = place.nats(config + tls(authority))
    a, b = (place.server(name, f"{url}{nats.port}", **more) for name in "ab")
    for round_ in range(2):
        wait_until(lambda: a.metric("backend_connected") == 1 and b.metric("backend_connected") == 1, 30, "NATS")
        hears, says = b.peer(), a.peer()
        hears.subscribe("x")
        # From a moment after the answer on.
        wait_until(lambda: (says.send("x"), says.sync(), hears.sync())[2], 30, "an event of the other server")
        if round_ == 0:
            nats.kill()
            wait_until(lambda: a.metric("backend_connected") == 0 and b.metric("backend_connected") == 0, 30, "it to be noticed")
            nats.start()
    for server in (a, b):
        assert PASSWORD not in server.conf.server.log()


def refused(bus, words, count=2):
    """It says why, tries again, and what is its own goes on."""
    bus.conf.server.wait_log(words, timeout=30, count=count)
    one, two = bus.peer().subscribe("x"), bus.peer()
    two.send("x")
    assert one.next()["type"] == "x"
    assert bus.metric("backend_connected") == 0


def test_a_wrong_password(place, authority):
    nats = place.nats(f'authorization {{ user: mesh, password: "{PASSWORD}" }}\n' + tls(authority))
    bus = place.server("a", f"tls://mesh:wrong-secret@127.0.0.1:{nats.port}", backend_ca=authority.ca)
    refused(bus, "(?i)authorization violation")
    assert "wrong-secret" not in bus.conf.server.log()


def test_a_server_that_nobody_vouches_for(place, authority):
    nats = place.nats(tls(authority))
    refused(place.server("a", f"tls://127.0.0.1:{nats.port}"), "(?i)certificate")


def test_a_server_of_another_name(place, authority):
    nats = place.nats(tls(authority, "other"))
    refused(place.server("a", f"tls://127.0.0.1:{nats.port}", backend_ca=authority.ca), "(?i)mismatch")


@pytest.mark.parametrize("url", ["tls://mesh:secret@127.0.0.1:PORT", "nats://127.0.0.1:1,tls://mesh:secret@127.0.0.1:PORT"])
def test_tls_is_not_given_up(place, url):
    """A server that does not offer TLS is not told the password."""
    heard, listener = bytearray(), socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    links = []

    def one(link, info):
        with contextlib.suppress(OSError), link:
            link.sendall(f"INFO {info}\r\n".encode())
            while data := link.recv(4096):
                heard.extend(data)

    def serve():
        info = '{"server_id":"x","version":"2.9.10","proto":1,"host":"127.0.0.1","port":%d,"headers":true,"max_payload":1048576}' % port
        while True:
            try:
                link = listener.accept()[0]
            except OSError:
                return
            links.append(link)
            threading.Thread(target=one, args=[link, info]).start()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        # Of several addresses only the last one's reason may be told the second time.
        refused(place.server("a", url.replace("PORT", str(port))), "(?i)secure connection", count=1)
        wait_until(lambda: len(links) >= 3, 30, "it to try again")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
    assert b"CONNECT" not in heard and b"secret" not in heard


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_is_nobody_before_it_hears_a_word(place):
    """A server that says nothing: what it would say is read without rights."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bus = place.server("a", f"nats://127.0.0.1:{listener.getsockname()[1]}")
        link = listener.accept()[0]
        (pid,) = [pid for pid in procs.tree(bus.conf.server.pid) if open(f"/proc/{pid}/comm").read().strip() == "alknet-nats"]
        for thread in os.listdir(f"/proc/{pid}/task"):
            lines = open(f"/proc/{pid}/task/{thread}/status").read().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            assert status["Uid"].split() == status["Gid"].split() == ["65534"] * 4
            assert status["Groups"].strip() == "" and int(status["CapEff"], 16) == 0 and status["NoNewPrivs"] == "1"
        link.close()
