# SPDX-License-Identifier: MIT OR Apache-2.0
"""The bus at a local socket of the server: the same frames, and the kernel says who is there."""

import os
import resource
import socket
import stat
import subprocess
import sys

import pytest

from harness import procs
from harness.buslocal import Local
from harness.buswire import Peer, either
from harness.configured import Configured, lua
from harness.waiting import scaled, wait_until

WORKERS = pytest.mark.parametrize("workers", [0, 1, 2])
NOBODY = 65534


class Bus(Configured):
    socket = None

    def local(self):
        return Local(self.socket)

    def peer(self, key="user"):
        return Peer(self.login(key))

    def metric(self, name):
        return self.server.metric(f"alknet_bus_{name}")


@pytest.fixture
def bus(keys, tmp_path, running_programs):
    made = []

    def start(workers=1, bus=None, **options):
        path = tmp_path / "bus.sock"
        made.append(Bus(keys, tmp_path, running_programs, workers=workers,
                        bus={"listen": f"unix:{path}", **(bus or {})}, **options))
        made[-1].socket = path
        return made[-1]

    yield start
    for one in made:
        one.close()


def refused(options, keys, tmp_path):
    """What the server says when it does not start."""
    conf = tmp_path / "bad.conf"
    options = {"key": keys.path("host"), "authorized_keys": keys.authorized, "listen": ["127.0.0.1:0"],
               "admin_socket": tmp_path / "bad-admin.sock", **options}
    conf.write_text("return {\n" + "".join(f"  {k} = {lua(v)},\n" for k, v in options.items()) + "}\n")
    done = subprocess.run([procs.alknet(), "serve", "-c", str(conf)], capture_output=True, text=True,
                          env=procs.environment(), timeout=scaled(60))
    assert done.returncode == 2, done
    return done.stderr


@WORKERS
def test_local_and_remote_meet(bus, workers):
    server = bus(workers)
    here, there, other = server.local().subscribe("a.>"), server.peer().subscribe("a.>"), server.local()
    for n in range(200):
        other.send("a.b", str(n), {"n": n})
    for peer in (here, there):
        assert [peer.next()["payload"]["n"] for _ in range(200)] == list(range(200))
    there.send("a.c", "", {"from": "there"})
    assert here.next()["payload"] == {"from": "there"}
    assert other.sync() == []


@WORKERS
def test_calls_cross_the_socket(bus, workers):
    server = bus(workers)
    spoke, caller = server.local(), server.peer()
    assert spoke.register("dev1", "/fs/read")["type"] == "call.responded"
    wait_until(lambda: len(caller.get("/services/list", {"prefix": "/dev1/"})["operations"]) == 1, 20, "the spoke")
    caller.request("/dev1/fs/read", {"path": "x"}, "c")
    asked = spoke.next()
    assert asked["payload"] == {"operationId": "/fs/read", "input": {"path": "x"}}
    spoke.respond(asked["id"], "text")
    assert caller.next() == {"type": "call.responded", "id": "c", "payload": {"output": "text"}}
    caller.request("/dev1/fs/read", {}, "d")
    spoke.next()
    spoke.close()
    either(caller.next(), "UNAVAILABLE", "d")


def test_who_is_there(bus):
    policy = """
    return { on_publish = function(session, envelope)
        local who = session.identity
        if who.id == "uid:%d" and session.link.transport == "unix" and who.scopes[1] == "may:publish" then return "allow" end
        return "deny", who.id .. " " .. session.link.transport
    end }
    """ % os.getuid()
    server = bus(policy=policy, bus={"listen_scopes": [f"{os.getuid()}=may:publish,other", "nobody=other"]})
    peer = server.local().subscribe("a")
    sender = server.local()
    sender.send("a", "", {"n": 1})
    assert peer.next()["payload"] == {"n": 1}
    assert "tcp" in either((remote := server.peer()).send("a") or remote.next(), "FORBIDDEN")


@pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
def test_another_user(bus, tmp_path):
    server = bus(bus={"listen_mode": "0666", "listen_scopes": ["nobody=fs:read"]})
    tmp_path.chmod(0o755)
    for above in tmp_path.parents:
        if above == above.parent or str(above) == "/tmp":
            break
        above.chmod(above.stat().st_mode | 0o011)
    spoke = server.local()
    spoke.register("dev1", {"name": "/read", "access_control": {"required_scopes": ["fs:read"]}})
    either(server.local().call("/dev1/read"), "FORBIDDEN")
    code = ("import socket,struct,json,sys\ns=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n"
            "t=json.dumps({'type':'call.requested','id':'1','payload':{'operationId':'/dev1/read','input':{}}}).encode()\n"
            "s.sendall(struct.pack('>I',len(t))+t);n=struct.unpack('>I',s.recv(4,socket.MSG_WAITALL))[0];print(s.recv(n,socket.MSG_WAITALL).decode())")
    other = subprocess.Popen([sys.executable, "-c", code, str(server.socket)], stdout=subprocess.PIPE, text=True,
                             user=NOBODY, group=NOBODY, extra_groups=[])
    asked = spoke.next()
    spoke.respond(asked["id"], {"ok": True})
    assert '"ok":true' in other.communicate(timeout=60)[0]


def test_mode_stale_socket_and_end(bus, keys, tmp_path):
    path = tmp_path / "bus.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = bus()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.local().subscribe("a")
    # A live one is left alone, and so is what is no socket.
    assert "another server answers" in refused({"bus": {"listen": f"unix:{path}"}}, keys, tmp_path)
    file = tmp_path / "file"
    file.write_text("mine")
    link = tmp_path / "link.sock"
    link.symlink_to(file)
    for place in (file, link):
        assert "is not a socket" in refused({"bus": {"listen": f"unix:{place}"}}, keys, tmp_path)
    assert file.read_text() == "mine" and link.is_symlink()
    server.server.stop()
    assert not path.exists()


@pytest.mark.parametrize("options,words", [
    ({"listen": "tcp:127.0.0.1:1"}, "is not unix:"),
    ({"listen": "unix:relative.sock"}, "is not unix:"),
    ({"listen": "unix:/tmp/" + "x" * 200}, "longer than"),
    ({"listen": "unix:/tmp/none/none/bus.sock"}, "cannot make the directory"),
    ({"listen_mode": "0777"}, "is not a mode"),
    ({"listen_mode": "rw"}, "is not a mode"),
    ({"listen_scopes": ["nobody"]}, "is not USER=SCOPE"),
    ({"listen_scopes": ["no-such-user=a"]}, "there is no user"),
    ({"listen_scopes": ["0=a,,b"]}, "a scope is empty"),
])
def test_bad_options(keys, tmp_path, options, words):
    text = refused({"bus": options}, keys, tmp_path)
    assert words in text and "bus" in text, text


@WORKERS
def test_connections_survive_a_reload_and_the_socket_moves(bus, workers, tmp_path):
    server = bus(workers)
    old = server.local().subscribe("a")
    server.reload()
    new = server.local()
    new.send("a", "", {"n": 1})
    assert old.next()["payload"] == {"n": 1}
    moved = tmp_path / "other.sock"
    server.write(bus={"listen": f"unix:{moved}"})
    server.reload()
    assert not server.socket.exists()
    newest = Local(moved)
    newest.send("a", "", {"n": 2})
    assert old.next()["payload"] == {"n": 2}
    # A place that cannot be had fails the reload and changes nothing.
    (tmp_path / "taken").write_text("")
    server.write(bus={"listen": f"unix:{tmp_path / 'taken'}"})
    with pytest.raises(Exception, match="is not a socket"):
        server.reload()
    Local(moved).send("a", "", {"n": 3})
    assert old.next()["payload"] == {"n": 3}
    server.write(bus={"max_queue": "1M"})
    server.reload()
    assert not moved.exists()


def test_a_worker_dies(bus):
    server = bus(1)
    peer = server.local().subscribe("a")
    pid = server.status()["workers"][0]["pid"]
    os.kill(pid, 9)
    peer.wait_close()
    wait_until(lambda: (one := server.status()["workers"][0])["state"] == "ready" and one["pid"] != pid, 60, "another worker")
    again = server.local().subscribe("a")
    server.local().send("a", "", {"n": 1})
    assert again.next()["payload"] == {"n": 1}


def fits(server):
    try:
        server.local().subscribe("a")
        return True
    except EOFError:
        return False


def test_as_many_as_a_session_may_have_channels(bus):
    server = bus(max_channels=3)
    peers = [server.local().subscribe("a") for _ in range(3)]
    extra = server.local()
    extra.wait_close()
    server.peer().subscribe("a")
    peers[0].close()
    wait_until(lambda: fits(server), 20, "its place")


def test_accepting_pauses_without_descriptors(bus):
    """Out of descriptors the socket pauses, the log says so once, and whoever waits is served when there are some again."""
    if os.geteuid() != 0:
        pytest.skip("only root may limit a process that leaves no core")
    serving = bus()
    pid = serving.server.pid
    first = serving.local().subscribe("a")  # by its answer the supervisor has closed what asked it before
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), old[1]))
    waiting = [serving.local() for _ in range(3)]
    serving.server.wait_log(r'level=warn msg="accept paused" service=bus error="Too many open files"')
    resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    for peer in waiting:
        assert peer.sync() == []
        peer.close()
    assert first.sync() == []
    assert len(serving.server.lines("accept paused")) == 1


def test_a_half_closed_connection_gets_its_answer(bus):
    server = bus()
    one = server.local()
    one.request("/services/list", {}, "7")
    one.end()
    assert one.next()["id"] == "7"
    one.wait_close()
    listener = server.local().subscribe("a")
    listener.end()
    server.local().send("a", "", {"n": 1})
    assert listener.next()["payload"] == {"n": 1}
    listener.close()
    wait_until(lambda: server.metric("subscriptions") == 0, 20, "the listener to be forgotten")


def test_a_drain_ends_with_calls_under_way(bus):
    """A connection whose frame waits for the policy is there to the end, and so is its call to an operation of the policy's;
    so is a call of the administrator's."""
    server = bus(0, drain_timeout=0, policy="""
    local function stay() while true do alknet.sleep(1) end end -- until its time is up, or it is ended
    alknet.operation("/slow/sleep", {}, stay)
    return { on_publish = stay }
    """)
    peer = server.local()
    peer.request("/slow/sleep")
    peer.sync()
    peer.send("a")
    with procs.AdminClient(server.server.admin) as admin:
        admin.request("operation.call", operation="/slow/sleep")
        admin.call("reload")
        server.alone()
    assert server.local().sync() == []
