# SPDX-License-Identifier: MIT OR Apache-2.0
"""Fixtures of the integration ring. docs/TESTING.md says how to run it.

ALKNET, ALKNET_ADMIN, ALKNET_PLUGIN_DIR   the programs and plugins to test (default: a build directory)
ALKNET_TEST_SCALE                         every deadline is multiplied by it
"""

import contextlib
import getpass
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import clocks as movable, netns, procs, sshwire, waiting  # noqa: E402
from harness.configured import Configured  # noqa: E402
from harness.net import ask_echo, have_ipv6, socks_connect  # noqa: E402

USER = "tester"


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.addinivalue_line("markers", "alone: must not run beside another test")
    config.addinivalue_line("markers", "part(NAME): needs a part of alknet that --without-NAME leaves out")
    try:
        sanitized = procs.is_sanitized()
    except FileNotFoundError:
        return
    if sanitized and "ALKNET_TEST_SCALE" not in os.environ:
        waiting.SCALE = 4.0


def pytest_runtest_setup(item):
    for mark in item.iter_markers("part"):
        if not procs.is_built(mark.args[0]):
            pytest.skip(f"built without {mark.args[0]}")


@pytest.fixture(scope="session")
def sanitized():
    return procs.is_sanitized()


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    return procs.Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def targets():
    directory = tempfile.mkdtemp(prefix="alknet-targets.")
    os.chmod(directory, 0o755)
    running = procs.Targets(directory)
    yield running
    running.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def ipv6():
    if not have_ipv6():
        pytest.skip("no IPv6 on this machine's loopback")


def finish_all(started):
    """End all, newest first; the first thing that is wrong fails the test, but all are ended."""
    errors = []
    for program in reversed(started):
        try:
            if isinstance(program, procs.Alknet):
                program.finish()
        except AssertionError as error:
            errors.append(error)
        finally:
            program.kill()
    if errors:
        raise errors[0]


LOGS_MOST, LOG_MOST = 8, 2000


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """What the other programs of a test that failed said last: it is not there any more when somebody looks."""
    report = (yield).get_result()
    programs = getattr(item, "funcargs", {}).get("running_programs", [])
    for program in programs[-LOGS_MOST:] if report.failed and report.when == "call" else []:
        with contextlib.suppress(AttributeError, OSError):
            report.sections.append((f"end of the log of {program.argv[:2]}", program.log()[-LOG_MOST:]))


@pytest.fixture
def running_programs():
    """Everything that a test started, in order; whoever came last goes first."""
    started = []
    yield started
    finish_all(started)


@pytest.fixture
def libssh_forgets(monkeypatch):
    """For tests that ask a server of ours for remote forwards: the library's known leak is no finding."""
    known = Path(__file__).with_name("libssh_forward.supp")
    monkeypatch.setenv("LSAN_OPTIONS", f"suppressions={known}:print_suppressions=0")


@pytest.fixture
def server(keys, tmp_path, running_programs):
    """A factory of `alknet serve`: flags as arguments, the file's keys as a Lua text in `conf`."""
    count = itertools.count()

    def start(*flags, conf=None, policy=None, workers=None, authorized=True, listen="127.0.0.1:0", key=None, env=None,
              wrap=(), wait=True):
        number = next(count)
        argv = [*wrap, procs.alknet(), "serve", "--key", key or keys.path("host")]
        if listen is not None:
            argv += ["--listen", listen]
        admin = tmp_path / f"admin{number}.sock"
        argv += ["--admin-socket", admin]
        if authorized:
            argv += ["--authorized-keys", keys.authorized if authorized is True else authorized]
        if workers is not None:
            argv += ["--workers", str(workers)]
        if policy is not None:
            script = tmp_path / f"policy{number}.lua"
            script.write_text(policy)
            argv += ["--policy", script]
        if conf is not None:
            file = tmp_path / f"alknet{number}.conf"
            file.write_text("return {\n" + conf + "\n}\n")
            argv += ["-c", file]
        running = procs.Server([*argv, *flags], tmp_path / f"serve{number}.log", env=env or procs.environment())
        running.admin = admin
        running_programs.append(running)
        if wait:
            running.find_port()
        return running

    return start


@pytest.fixture
def client(keys, tmp_path, running_programs):
    """A factory of `alknet connect` to a port on loopback, with a proxy on a port of its own."""
    count = itertools.count()

    def start(to, *flags, user=USER, identity=None, socks5="127.0.0.1:0", known=True, env=None, wait=True, host="127.0.0.1",
              wrap=()):
        number = next(count)
        port = getattr(to, "port", to)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        argv = [procs.alknet(), "connect", "--server", where, "--identity", identity or keys.path("user"), "--user", user]
        hosts = tmp_path / f"known_hosts{number}"
        if known:
            keys.known_hosts(hosts, port, host=host)
        argv += ["--known-hosts", hosts]
        if socks5:
            argv += ["--socks5", socks5]
        running = procs.Client([*wrap, *argv, *flags], tmp_path / f"connect{number}.log", env=env or procs.environment())
        running.known_hosts = hosts
        if "--admin-socket" in flags:
            running.admin = flags[flags.index("--admin-socket") + 1]
        running_programs.append(running)
        if wait:
            if socks5 and socks5 != "none":
                running.find_port()
            else:
                running.wait_log(r"alknet: connected to ")
        return running

    return start


@pytest.fixture
def sshd(keys, tmp_path, running_programs):
    if not procs.find_sshd():
        pytest.skip("sshd is not installed")
    count = itertools.count()

    def start(extra=""):
        running = procs.start_sshd(keys, tmp_path, extra, f"sshd{next(count)}_")
        running.user = getpass.getuser()
        running_programs.append(running)
        return running

    return start


@pytest.fixture
def namespace():
    made = netns.Namespace()
    yield made
    made.close()


@pytest.fixture
def clocks(tmp_path):
    made = movable.Clocks(tmp_path)
    yield made
    made.close()


class Ssh:
    """Stock OpenSSH against a port on loopback."""

    def __init__(self, keys, directory, started):
        self.keys, self.dir, self.started, self.number = keys, directory, started, 0

    def argv(self, to, *more, user=USER, identity="user", program="ssh"):
        port = getattr(to, "port", to)
        self.number += 1
        known = self.dir / f"ssh_known{self.number}"
        self.keys.known_hosts(known, port)
        return [
            program, *procs.SSH_OPTIONS, "-o", f"UserKnownHostsFile={known}", "-i", self.keys.path(identity),
            "-P" if program == "scp" else "-p", str(port), *(["-l", user] if program == "ssh" else []), *more,
        ]

    def run(self, to, *more, data=b"", timeout=60, **options):
        """Run to the end: `more` comes before the host name, `command` after it."""
        command = options.pop("command", ())
        argv = self.argv(to, *more, **options) + ["127.0.0.1", *command]
        return subprocess.run(
            argv, input=data, capture_output=True, timeout=waiting.scaled(timeout), env=procs.environment(), check=False,
        )

    def start(self, to, *more, stdin=subprocess.DEVNULL, stdout=None, **options):
        command = options.pop("command", ())
        log = self.dir / f"ssh{len(self.started)}.log"
        extra = {} if stdout is None else {"stdout": stdout}
        program = procs.Program(self.argv(to, *more, **options) + ["127.0.0.1", *command], log, stdin=stdin, **extra)
        self.started.append(program)
        return program


@pytest.fixture
def ssh(keys, tmp_path, running_programs):
    if not shutil.which("ssh"):
        pytest.skip("ssh is not installed")
    return Ssh(keys, tmp_path, running_programs)


@pytest.fixture
def tunnel(server, client):
    """alknet and alknet: the pair that most tests want."""

    def start(*flags, workers=None, connect=(), **options):
        serving = server(*flags, workers=workers, **options)
        return serving, client(serving, *connect)

    return start


@pytest.fixture(params=[0, 1, 2], ids=lambda n: f"workers{n}")
def workers(request):
    return request.param


class Pair:
    """Two ends with a SOCKS5 proxy on loopback `port`; `ours` are alknet's processes of the two."""

    def __init__(self, serving, connecting, port):
        self.server, self.client, self.port = serving, connecting, port
        self.ours = [p for p in (serving, connecting) if isinstance(p, procs.Alknet)]

    def connect(self, to, host="127.0.0.1", **more):
        return socks_connect(self.port, host, to, **more)

    def memory(self):
        return [p.memory() for p in self.ours]


def ssh_socks(ssh, to, *more, user):
    """ssh -D, ended with the test."""
    name = f"socks{len(ssh.started)}_"
    program = procs.start_ssh_socks(ssh.keys, ssh.dir, getattr(to, "port", to), user, *more, name=name)
    ssh.started.append(program)
    return program, program.port


@pytest.fixture
def make_pair(request, server, client, ssh):
    """make_pair("SERVER+CLIENT"): each of them alknet or openssh."""

    def make(name, serve=(), connect=(), sshd_config="", ssh_flags=(), **options):
        left, right = name.split("+")
        if left == "openssh":
            serving = request.getfixturevalue("sshd")(sshd_config)
            user = serving.user
        else:
            serving, user = server(*serve, **options), USER
        if right == "openssh":
            connecting, port = ssh_socks(ssh, serving, *ssh_flags, user=user)
        else:
            connecting = client(serving, *connect, user=user)
            port = connecting.port
        return Pair(serving, connecting, port)

    return make


PAIRS = ["alknet+alknet", "alknet+openssh", "openssh+alknet"]


@pytest.fixture(params=PAIRS)
def pair(request, make_pair):
    return make_pair(request.param)


@pytest.fixture
def configured(keys, tmp_path, running_programs):
    """Servers whose configuration is a file that the test writes again."""
    made = []

    def start(**options):
        made.append(Configured(keys, tmp_path, running_programs, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def login(keys):
    """A session of our own client with a server."""
    wires = []

    def connect(serving, user=USER, key="user"):
        wire = sshwire.Wire(serving.port)
        wires.append(wire)
        return wire.login(sshwire.load_key(keys.path(key)), user)

    yield connect
    for wire in wires:
        wire.close()


@pytest.fixture
def works(targets):
    """Ask through the proxy of a client."""

    def ask(running):
        with socks_connect(running.port, "127.0.0.1", targets.echo) as sock:
            ask_echo(sock)

    return ask


@pytest.fixture(params=["alknet", "sshd"])
def far(request, server):
    """A server for `alknet connect`, the user that it lets in, and how to ask it for any port."""
    if request.param == "alknet":
        return server(), "tester", "0"
    running = request.getfixturevalue("sshd")()
    # It takes a port of the one family, and in the other the same one, which may be somebody else's there.
    return running, running.user, "127.0.0.1:0"
