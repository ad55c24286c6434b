# SPDX-License-Identifier: MIT OR Apache-2.0
"""A worker that was taken over: what it can still do."""

import errno
import os
import re
import shutil
import signal

import pytest

from harness import procs, sshwire
from harness.configured import Configured
from harness.plugins import build
from harness.waiting import wait_until

POLICY = """return { on_open = function(session, destination)
  if destination.host == "probe" then return "service", "probe" end
  return "forward"
end }"""

# What is tried (probe.c): the error with the sandbox, and without it.
TRIED = {
    1: (errno.EPERM, errno.ENOENT),  # execve
    3: (errno.EPERM, 0),  # open for writing
    4: (errno.EPERM, errno.ESRCH),  # ptrace
    5: (errno.EPERM, 0),  # fork
    6: (errno.EPERM, None),  # a packet socket, which without root is refused anyway
    7: (errno.EPERM, 0),  # a signal to the supervisor
    8: (errno.EPERM, 0),  # limits
    9: (errno.EPERM, errno.EEXIST),  # mkdir
    11: (0, 0),  # a socket of the internet
}
FILES = {2: (errno.EACCES, 0), 12: (errno.EACCES, 0), 10: (0, 0)}  # landlock's: a file outside, /proc, /etc/hosts


@pytest.fixture
def probed(keys, tmp_path, running_programs):
    made = []

    def start(**options):
        outside = tmp_path / "outside"
        outside.write_text("x")
        configured = Configured(
            keys, tmp_path, running_programs, env=procs.environment(ALKNET_PLUGIN_DIR=None), plugin_dir=build(tmp_path, "probe"),
            policy=POLICY, probe={"path": str(outside)}, **options,
        )
        made.append(configured)
        return configured

    yield start
    for one in made:
        one.close()


def attempt(keys, configured, tried):
    wire = sshwire.Wire(configured.port).login(sshwire.load_key(keys.path("user")))
    for n, what in enumerate(tried):
        assert wire.open_channel(n + 1, "probe", what) is None
    wire.close()
    log = configured.server.log()
    return {int(what): int(failed) for what, failed in re.findall(r"msg=\"?probe\"? what=(\d+) failed=(\d+)", log)}


def kind_of(configured):
    return configured.server.wait_log(r'msg="sandbox of workers" kind="?([^"\n]+)')[1]


def test_what_a_worker_cannot_do(keys, probed):
    configured = probed(workers=1)
    kind = kind_of(configured)
    if kind.startswith("none"):
        pytest.skip(f"no sandbox here: {kind}")
    calls, files = "no seccomp" not in kind, "no landlock" not in kind
    wanted = {what: errors[0] for what, errors in TRIED.items() if calls}
    wanted |= {what: errors[0] for what, errors in FILES.items() if files}
    assert attempt(keys, configured, wanted) == wanted
    assert kind.startswith("partial") == (not calls or not files)
    assert bool(configured.server.lines("level=warn", "sandbox of workers")) == kind.startswith("partial")
    (worker,) = configured.server.workers()
    status = open(f"/proc/{worker}/status").read()
    assert re.search(rf"^Seccomp:\s+{2 if calls else 0}$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert re.search(r"^Seccomp:\s+0$", open(f"/proc/{configured.server.pid}/status").read(), re.M)


def test_switched_off(keys, probed):
    configured = probed(workers=1, sandbox=False)
    assert kind_of(configured) == "none: switched off"
    wanted = {what: errors[1] for what, errors in (TRIED | FILES).items() if errors[1] is not None}
    if os.getuid() != 0:
        del wanted[7]
    assert attempt(keys, configured, wanted) == wanted


def test_flag(server, login, targets):
    serving = server("--no-sandbox", workers=1)
    assert "switched off" in serving.wait_log("msg=\"sandbox of workers\".*").group(0)
    assert login(serving).open_channel(1, "127.0.0.1", targets.echo)


def test_workers_that_come_later_have_it_too(server, sanitized):
    """After a death and after a reload."""
    if sanitized:
        pytest.skip("sanitizers need more than the sandbox gives")
    serving = server(workers=1)
    if "seccomp" not in serving.wait_log("msg=\"sandbox of workers\".*").group(0).replace("no seccomp", ""):
        pytest.skip("no seccomp in this build")

    def filtered(pid):
        return "Seccomp:\t2" in open(f"/proc/{pid}/status").read()

    (first,) = serving.workers()
    assert filtered(first)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: serving.call("status")["workers"][0]["pid"] not in (0, first), 20, "another worker")
    wait_until(lambda: serving.call("status")["workers"][0]["state"] == "ready", 20, "it to be ready")
    serving.call("reload")
    assert all(filtered(worker["pid"]) for worker in serving.call("status")["workers"] if worker["state"] == "ready")


@pytest.mark.parametrize("children", ["no", "yes"])
def test_under_valgrind(keys, tmp_path, running_programs, targets, sanitized, children):
    """It starts all the same, without a sandbox, and says so; whether valgrind runs the workers too or not."""
    if sanitized or not shutil.which("valgrind"):
        pytest.skip("sanitizers and valgrind exclude each other" if sanitized else "valgrind is not installed")
    argv = [
        "valgrind", "-q", f"--trace-children={children}", procs.real_binary(), "serve", "--key", keys.path("host"), "--authorized-keys",
        keys.authorized, "--listen", "127.0.0.1:0", "--workers", "1", "--admin-socket", tmp_path / "admin.sock",
    ]
    libraries = os.environ.get("ALKNET_LIBDIR", procs.real_binary().parent)
    serving = procs.Server(argv, tmp_path / "serve.log", env=procs.environment(LD_LIBRARY_PATH=str(libraries)))
    serving.admin = tmp_path / "admin.sock"
    running_programs.append(serving)
    serving.find_port()
    assert serving.wait_log(r'level=warn msg="sandbox of workers" kind="none: under valgrind')
    wire = sshwire.Wire(serving.port).login(sshwire.load_key(keys.path("user")))
    assert wire.open_channel(1, "127.0.0.1", targets.echo)
    wire.close()
    worker = serving.call("status")["workers"][0]["pid"]
    assert ("memcheck" in os.readlink(f"/proc/{worker}/exe")) == (children == "yes")
