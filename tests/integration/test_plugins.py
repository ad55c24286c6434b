# SPDX-License-Identifier: MIT OR Apache-2.0
"""Plugins at run time: plugin.load, plugin.unload, plugin.list (THREATS 48)."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness import procs
from harness.configured import Configured, echoes, lives
from harness.waiting import wait_until

POLICY = """return { on_open = function(session, destination)
  if destination.host == "skeleton" then return "service", "skeleton" end
  return "forward"
end }"""


def build(source, out, change=lambda text: text):
    """A plugin built against include/ alone, as anybody's is."""
    compiler = os.environ.get("CC", "cc").split()
    if not shutil.which(compiler[0]):
        pytest.skip("no C compiler")
    text = out.with_suffix(".c")
    text.write_text(change((procs.ROOT / "src" / "plugins" / source).read_text()))
    new = out.with_suffix(".new")
    subprocess.run([*compiler, "-shared", "-fPIC", "-I", procs.ROOT / "include", text, "-o", new], check=True)
    new.chmod(0o755)
    os.replace(new, out)


def build_skeleton(directory, change=lambda text: text):
    build("skeleton/skeleton.c", directory / "skeleton.so", change)


@pytest.fixture
def plugins(tmp_path):
    directory = tmp_path / "plugins"
    directory.mkdir(mode=0o755)
    for name in ("tcp.so", "forward.so"):
        shutil.copy(Path(procs.plugin_dir()) / name, directory / name)
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def configured(keys, tmp_path, running_programs, plugins):
    made = []

    def start(**options):
        env = procs.environment(ALKNET_PLUGIN_DIR=None)
        options = {"policy": POLICY, "plugin_dir": plugins, **options}
        made.append(Configured(keys, tmp_path, running_programs, env=env, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def plugin(serving, name):
    found = [one for one in serving.call("plugin.list")["plugins"] if one["name"] == name]
    assert len(found) <= 1
    return found[0] if found else None


def at_skeleton(wire, number=7):
    """The server's number of a channel at the service, None when it is refused."""
    opened = wire.open_channel(number, "skeleton", 1)
    if not opened:
        return None
    wire.data(opened[0], b"ping")
    assert wire.read(4) == b"ping"
    return opened[0]


def close_channels(serving, wire):
    for one in serving.call("channel.list")["channels"]:
        serving.call("channel.close", session=one["session"], id=one["id"])
    with pytest.raises(EOFError):
        wire.read(1)
    wire.send(bytes([97]) + (7).to_bytes(4, "big"))  # our half of the close
    assert lives(wire)


def test_load_at_run_time(configured, plugins, targets, workers):
    """It serves the sessions that are there, too."""
    serving = configured(workers=workers)
    wires = [serving.login() for _ in range(3)]
    assert all(at_skeleton(wire) is None for wire in wires)
    build_skeleton(plugins)
    assert serving.call("plugin.load", name="skeleton") == {"name": "skeleton", "state": "loaded"}
    assert [at_skeleton(wire) for wire in wires].count(None) == 0
    assert plugin(serving, "skeleton")["state"] == "loaded"
    assert (plugin(serving, "skeleton")["sessions"], plugin(serving, "skeleton")["channels"]) == (3, 3)
    assert (plugin(serving, "tcp")["listeners"], plugin(serving, "tcp")["sessions"]) == (1, 3)
    with pytest.raises(procs.AdminError, match="plugin skeleton is loaded"):
        serving.call("plugin.load", name="skeleton")
    assert at_skeleton(wires[0], 8) is not None, "the failure took nothing away"
    echoes(wires[1], targets, 9)


def test_t48_unload_while_in_use(configured, plugins, workers):
    """Refused with who uses it, in all workers or in none; then it is gone, also for workers to come."""
    build_skeleton(plugins)
    serving = configured(workers=workers)
    user, others = serving.login(), [serving.login() for _ in range(3)]
    channel = at_skeleton(user)
    session = serving.call("channel.list")["channels"][0]["session"]
    with pytest.raises(procs.AdminError, match=rf"plugin skeleton is in use: 1 session \({session}\) with 1 channel"):
        serving.call("plugin.unload", name="skeleton")
    user.data(channel, b"more")
    assert user.read(4) == b"more"
    for wire in others:
        assert at_skeleton(wire) is not None
    with pytest.raises(procs.AdminError, match="in use"):
        serving.call("plugin.unload", name="skeleton")
    for wire in others:
        wire.close()
    wait_until(lambda: plugin(serving, "skeleton")["sessions"] == 1, 10, "the other sessions to end")
    close_channels(serving, user)
    wait_until(lambda: plugin(serving, "skeleton")["channels"] == 0, 10, "the channel to end")
    assert serving.call("plugin.unload", name="skeleton") == {"name": "skeleton", "state": "unloaded"}
    assert at_skeleton(user, 11) is None and at_skeleton(serving.login()) is None
    assert plugin(serving, "skeleton") == {"name": "skeleton", "state": "unloaded"}
    with pytest.raises(procs.AdminError, match="not loaded"):
        serving.call("plugin.unload", name="skeleton")
    serving.reload()
    assert at_skeleton(serving.login()) is None, "a reload does not bring it back"
    serving.call("plugin.load", name="skeleton")
    assert at_skeleton(serving.login()) is not None


def test_a_worker_that_is_replaced_knows(configured, plugins):
    build_skeleton(plugins)
    serving = configured(workers=1)
    serving.call("plugin.unload", name="skeleton")
    pid = serving.server.workers()[0]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: [w for w in serving.status()["workers"] if w["pid"] not in (0, pid) and w["state"] == "ready"], 20, "a worker")
    assert at_skeleton(serving.login()) is None


def test_a_worker_that_is_replaced_knows_what_was_loaded(configured, plugins):
    """Also when `services` does not name it, and across a reload."""
    build_skeleton(plugins)
    serving = configured(workers=1, services=["forward"])
    assert at_skeleton(serving.login()) is None
    serving.call("plugin.load", name="skeleton")
    pid = serving.server.workers()[0]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: [w for w in serving.status()["workers"] if w["pid"] not in (0, pid) and w["state"] == "ready"], 20, "a worker")
    assert at_skeleton(serving.login()) is not None
    serving.reload()
    assert at_skeleton(serving.login()) is not None


def test_t48_what_serves_cannot_be_unloaded(configured, targets, workers):
    serving = configured(workers=workers)
    with pytest.raises(procs.AdminError, match=rf"plugin tcp is in use: listener 127.0.0.1:{serving.port}"):
        serving.call("plugin.unload", name="tcp")
    with pytest.raises(procs.AdminError, match="plugin forward is in use"):
        serving.call("plugin.unload", name="forward")
    with pytest.raises(procs.AdminError, match="plugin nothing is not loaded"):
        serving.call("plugin.unload", name="nothing")
    echoes(serving.login(), targets)


def test_transport_at_run_time(configured, plugins, targets, workers):
    """In use by a listener, then by a session of it, then by nobody."""
    serving = configured(workers=workers)
    build("transports/tcp/tcp.c", plugins / "other.so", lambda text: text.replace('"tcp"', '"other"'))
    serving.call("plugin.load", name="other")
    assert plugin(serving, "other")["listeners"] == 0
    result = serving.reload(listen=["127.0.0.1:0", {"transport": "other", "address": "127.0.0.1:0"}])
    port = int(result["listeners_opened"][0]["address"].rsplit(":", 1)[1])
    wire = serving.login(port=port)
    echoes(wire, targets)
    with pytest.raises(procs.AdminError, match="plugin other is in use: listener"):
        serving.call("plugin.unload", name="other")
    serving.reload(listen=["127.0.0.1:0"])
    with pytest.raises(procs.AdminError, match="plugin other is in use: 1 session"):
        serving.call("plugin.unload", name="other")
    wire.close()
    serving.alone()
    if plugin(serving, "other"):  # the generation that serves has no listener of it, and need not have it
        serving.call("plugin.unload", name="other")
    echoes(serving.login(), targets)


def test_reload_needs_a_transport_that_was_unloaded(configured, plugins):
    build("transports/tcp/tcp.c", plugins / "other.so", lambda text: text.replace('"tcp"', '"other"'))
    serving = configured(workers=1)
    serving.call("plugin.load", name="other")
    serving.call("plugin.unload", name="other")
    with pytest.raises(procs.AdminError, match="plugin other was unloaded"):
        serving.reload(listen=["127.0.0.1:0", {"transport": "other", "address": "127.0.0.1:0"}])
    assert serving.generation() == 1


CONSTRUCTORS = {
    "aborts": ("abort();", "ends the process: Aborted"),
    "exits": ("exit(3);", "ends the process with status 3"),
}


@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_t48_constructors(configured, plugins, targets, workers, kind):
    """A library that would end the server when it is opened: refused while it runs, and left out at its start."""
    code, why = CONSTRUCTORS[kind]
    serving = configured(workers=workers)
    wire = serving.login()
    bad = "#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void begin(void) { " + code + " }\n"
    build_skeleton(plugins, lambda text: text + bad)
    with pytest.raises(procs.AdminError, match=why):
        serving.call("plugin.load", name="skeleton")
    echoes(wire, targets)
    assert serving.call("reload")["generation"] == 2
    assert serving.server.lines("plugin refused", why)
    echoes(wire, targets, 12)
    echoes(serving.login(), targets)


@pytest.mark.parametrize(("name", "spoil", "why"), [
    ("skeleton", lambda so: so.chmod(0o777), "written by others"),
    ("skeleton", lambda so: so.write_bytes(b""), "skeleton"),
    ("skeleton", lambda so: so.unlink(), "No such file"),
    ("skeleton", lambda so: build_skeleton(so.parent, lambda t: t.replace('.name = "skeleton"', '.name = "bones"')), "bones"),
    ("skeleton", lambda so: build_skeleton(so.parent, lambda t: t.replace('"greeting"', '"farewell"')), r"skeleton\.greeting"),
    ("../skeleton", lambda so: None, "no name of a plugin"),
    ("x" * 200, lambda so: None, "name"),
], ids=["writable", "empty", "missing", "name", "options", "path", "long"])
def test_t48_load_refused(configured, plugins, targets, workers, name, spoil, why):
    """The loader's rules and the plugin's own table, with a sentence; nothing changed."""
    build_skeleton(plugins)
    serving = configured(workers=workers, skeleton={"greeting": "x"})
    serving.call("plugin.unload", name="skeleton")
    wire = serving.login()
    spoil(plugins / "skeleton.so")
    with pytest.raises(procs.AdminError) as error:
        serving.call("plugin.load", name=name)
    assert re.search(why, str(error.value)), error.value
    assert plugin(serving, "skeleton")["state"] == "unloaded"
    assert at_skeleton(wire) is None
    echoes(wire, targets, 12)
    build_skeleton(plugins)
    serving.call("plugin.load", name="skeleton")
    opened = wire.open_channel(13, "skeleton", 1)
    assert opened and wire.read(1) == b"x"


def test_configured_plugin_must_fit(configured, plugins):
    """One that the configuration speaks of is not left out in silence by a reload."""
    build_skeleton(plugins)
    serving = configured(workers=1)
    with pytest.raises(procs.AdminError, match=r"alknet\.conf:\d+: skeleton\.greeting: must be text"):
        serving.reload(skeleton={"greeting": 7})
    (plugins / "skeleton.so").chmod(0o777)
    serving.write(skeleton={"greeting": "y"})
    with pytest.raises(procs.AdminError, match="skeleton"):
        serving.reload()
    assert serving.generation() == 1 and at_skeleton(serving.login())
