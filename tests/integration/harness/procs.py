# SPDX-License-Identifier: MIT OR Apache-2.0
"""The programs under test, and what /proc says about them. Everything is ended by its pid."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .net import free_port
from .waiting import patient, scaled, wait_until

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
SANITIZER = re.compile(r"ERROR: AddressSanitizer|runtime error:|LeakSanitizer|AddressSanitizer:|ThreadSanitizer")
LEAKED_WATCHER = re.compile(r'msg="[^"]*(watcher|timer|leak)[^"]*(leak|alive)[^"]*"')


def find_program(name, variable):
    """From the environment, else out of a build directory beside the sources."""
    if os.environ.get(variable):
        return os.path.abspath(os.environ[variable])
    for build in (ROOT / "build", ROOT):
        for place in (build / name, build / "src" / "cmd" / name):
            if place.is_file() and os.access(place, os.X_OK):
                return str(place)
    raise FileNotFoundError(f"{name} is not built: run make, or say {variable}=/path/of/{name}")


def alknet():
    return find_program("alknet", "ALKNET")


def alknet_admin():
    return find_program("alknet-admin", "ALKNET_ADMIN")


def plugin_dir():
    if os.environ.get("ALKNET_PLUGIN_DIR"):
        return os.path.abspath(os.environ["ALKNET_PLUGIN_DIR"])
    near = Path(alknet()).parent
    for place in (near / "plugins" / ".libs", near / ".libs", near, near.parent.parent / "plugins" / ".libs"):
        if (place / "tcp.so").exists():
            return str(place)
    return None


def is_built(part):
    """A plugin, or the program beside one."""
    place = plugin_dir()
    return place is not None and any((Path(place) / name).exists() for name in (f"{part}.so", f"alknet-{part}"))


def real_binary():
    """The ELF file itself: libtool puts a script where an uninstalled program should be."""
    path = Path(alknet())
    if path.read_bytes()[:4] == b"\x7fELF":
        return path
    for inner in (path.parent / ".libs" / ("lt-" + path.name), path.parent / ".libs" / path.name):
        if inner.exists():
            return inner
    return path


def is_sanitized():
    """Is this a build with AddressSanitizer?"""
    return b"__asan_init" in real_binary().read_bytes()


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ALKNET", "SSH_"))}
    env.update(LC_ALL="C", ASAN_OPTIONS="quarantine_size_mb=1:" + os.environ.get("ASAN_OPTIONS", ""))
    if plugin_dir_or_none := _plugin_dir_if_built():
        env["ALKNET_PLUGIN_DIR"] = plugin_dir_or_none
    env.update(more)
    return {k: v for k, v in env.items() if v is not None}


def curl(*words):
    """The real one, past what the environment says of proxies."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    argv = ["curl", "-sS", "-m", str(int(scaled(20))), "--noproxy", "", *map(str, words)]
    return subprocess.run(argv, capture_output=True, timeout=scaled(30), env=environment(), check=False)


def _plugin_dir_if_built():
    try:
        return plugin_dir()
    except FileNotFoundError:
        return None


# /proc


def children(pid):
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def arguments(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def tree(pid):
    found = [pid]
    for child in children(pid):
        found += tree(child)
    return found


# What a process has taken for itself. Its share of its programs' and libraries' pages depends on who else runs.
OWN = ("Anon", "Shmem")


def memory_of_one(pid, kinds=OWN):
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        names = [f"Pss_{kind}" for kind in kinds] or ["Pss"]
    except PermissionError:
        # Not ours to look into (no core dumps): the resident size is told to everybody.
        text = Path(f"/proc/{pid}/status").read_text()
        names = [f"Rss{kind}" for kind in kinds] or ["VmRSS"]
    return sum(int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M)[1]) for name in names) * 1024


def memory(pid, kinds=OWN):
    """Bytes of a process tree."""
    total = 0
    for one in tree(pid):
        try:
            total += memory_of_one(one, kinds)
        except (FileNotFoundError, ProcessLookupError, TypeError):
            if one == pid:
                raise
    assert total > 0
    return total


def proportional_memory(pid):
    """Those pages with them (Pss)."""
    return memory(pid, ())


def cpu_of_one(pid):
    """User and system time of one process, reaped children included. The programs have one thread each."""
    tick = os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    reaped = (int(fields[13]) + int(fields[14])) / tick
    try:
        return reaped + int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, IndexError):
        return reaped + (int(fields[11]) + int(fields[12])) / tick


def cpu_seconds(pid):
    """The same of a process tree."""
    seconds = 0.0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            seconds += cpu_of_one(one)
    return seconds


def bytes_of(pid, what):
    """`wchar`, what it wrote, or `rchar`."""
    with open(f"/proc/{pid}/io") as file:
        return int(next(line for line in file if line.startswith(what)).split()[1])


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def state(pid):
    """Where a process stands: what it waits for in the kernel, and what of its signals is pending, blocked and caught."""
    found = [f"{pid} {' '.join(arguments(pid)[:2])}"]
    for name in ("wchan", "syscall", "stack", "status"):
        try:
            text = Path(f"/proc/{pid}/{name}").read_text()
        except OSError as error:
            text = str(error)
        if name == "status":
            text = " ".join(re.findall(r"^(?:State|Sig\w+|ShdPnd):.*", text, re.M))
        found.append(f"  {name}: {' '.join(text.split())}")
    with contextlib.suppress(OSError):
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            text = info.read_text()
            if "tfd:" in text or "eventfd-count" in text:
                found.append(f"  descriptor {info.name}: {' '.join(text.split())}")
    return "\n".join(found)


def freeze(pid):
    """SIGSTOP, and until each of its threads has stopped; SIGCONT goes on."""
    os.kill(pid, signal.SIGSTOP)

    def stopped():
        states = [Path(task, "stat").read_text().rsplit(")", 1)[1].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
        return all(state in "TZ" for state in states)

    wait_until(stopped, 10, f"{pid} to stop")


def open_files(pid):
    """What each descriptor is; PermissionError for a process that may not be looked into (then only root can)."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:  # closed since it was listed
            continue
    return found


class Program:
    """A process whose output goes to a file."""

    def __init__(self, argv, log, env=None, stdin=subprocess.DEVNULL, **popen):
        self.argv = [str(a) for a in argv]
        self.log_path = Path(log)
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(
                self.argv, stdin=stdin, stdout=popen.pop("stdout", out), stderr=out, env=env or environment(),
                start_new_session=True, **popen,
            )
        self.pid = self.popen.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def lines(self, *parts):
        """Log lines that hold every part."""
        return [line for line in self.log().splitlines() if all(p in line for p in parts)]

    def wait_log(self, pattern, timeout=20, count=1):
        """Wait until the log matches `count` times; gives the last match."""
        expression = re.compile(pattern, re.M)

        def look():
            found = list(expression.finditer(self.log()))
            if len(found) >= count:
                return found[-1]
            if self.popen.poll() is not None and not list(expression.finditer(self.log())):
                raise AssertionError(f"{self.argv[:2]} exited {self.popen.returncode} before {pattern!r}:\n{self.log()}")
            return None

        try:
            return wait_until(look, timeout, f"{pattern!r} in the log")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None

    def wait(self, timeout=20):
        return self.popen.wait(patient(timeout))

    def signal(self, number):
        os.kill(self.pid, number)

    def running(self):
        return self.popen.poll() is None

    def kill(self):
        """The end, for the whole tree, whatever state it is in."""
        for pid in reversed(tree(self.pid)):
            if pid != self.pid or self.popen.poll() is None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.popen.wait()

    def stop(self, timeout=10):
        """SIGTERM, as an operator would; gives the exit status."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            found = "\n".join(map(state, tree(self.pid)))
            self.kill()
            raise AssertionError(f"{self.argv[:2]} did not end on SIGTERM:\n{found}\n{self.log()[-4000:]}") from None


# Workers are asked these. One that takes longer than two seconds is left out of a list, and makes an error of what it alone can
# answer; a plugin is then loaded or unloaded nowhere. They may be asked again.
ASKED_AGAIN = {"session.list", "session.show", "channel.list", "plugin.list", "plugin.load", "plugin.unload", "policy.eval"}
# These have been done all the same, or will be: whoever asks waits for what comes of it.
DONE_ONCE = {"session.kill", "channel.close"}
LATE = "worker did not answer"


class Alknet(Program):
    """serve or connect; `finish` is what every one of them has to pass at the end of its test."""

    expected_status = 0
    admin = None

    def call(self, method, timeout=20, **params):
        """One admin request; gives the result, raises AdminError. AdminClient's own asks once, however busy the machine is."""
        tries = 3 if method in ASKED_AGAIN else 1
        while True:
            tries -= 1
            try:
                with AdminClient(self.admin, timeout) as client:
                    answer = client.call(method, **params)
            except AdminError as error:
                if LATE in str(error) and method in DONE_ONCE:
                    return {}
                if LATE not in str(error) or not tries:
                    raise
            else:
                if not tries or not answer.get("incomplete"):
                    return answer

    def finish(self):
        pids = tree(self.pid)
        status = self.stop()
        text = self.log()
        assert not SANITIZER.search(text), f"sanitizer report:\n{text[-8000:]}"
        assert self.expected_status is None or status == self.expected_status, f"{self.argv[:2]} exited {status}:\n{text[-4000:]}"
        assert not LEAKED_WATCHER.search(text), f"watchers leaked:\n{text[-4000:]}"
        wait_until(lambda: not any(alive(pid) for pid in pids), 5, "the workers to be gone")


class Server(Alknet):
    port = None

    def find_port(self):
        match = self.wait_log(r'msg="?listening"? .*address=(\S+)')
        self.port = int(match.group(1).strip('"').rsplit(":", 1)[1])

    def workers(self):
        """Not the children that try out a plugin, which have the name of their parent."""
        return [pid for pid in children(self.pid) if arguments(pid)[1:2] == ["worker"]]

    def metric(self, name):
        answer = self.call("metrics")
        text = answer if isinstance(answer, str) else answer["text"]
        match = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.M)
        assert match, f"no metric {name} in\n{text}"
        return float(match.group(1))

    def sessions(self):
        return self.call("session.list")["sessions"]

    def memory(self):
        return memory(self.pid)


class Client(Alknet):
    port = None

    def find_port(self):
        match = self.wait_log(r"alknet: SOCKS5 and HTTP proxy on (\S+)")
        self.port = int(match.group(1).rsplit(":", 1)[1])

    def forward_port(self, n=0, timeout=20):
        pattern = r"alknet: forwarding (\S+):(\d+) to \S+"
        self.wait_log(pattern, timeout, count=n + 1)
        return int(re.findall(pattern, self.log())[n][1])

    def memory(self):
        return memory(self.pid)


class AdminError(Exception):
    def __init__(self, error):
        super().__init__(error.get("message"))
        self.code = error.get("code")


class AdminClient:
    """JSON-RPC 2.0, one object a line, over the admin socket."""

    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(scaled(timeout))
        self.sock.connect(str(path))
        self.reader = self.sock.makefile("rb")
        self.number = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.sock.close()

    def send_line(self, line):
        self.sock.sendall(line + b"\n")

    def read(self):
        line = self.reader.readline()
        return json.loads(line) if line else None

    def request(self, method, **params):
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method}
        if params:
            message["params"] = params
        self.send_line(json.dumps(message).encode())
        return self.number

    def call(self, method, **params):
        number = self.request(method, **params)
        while (answer := self.read()) is not None:
            # A request that could not be read has no number in its answer.
            if "error" in answer and answer["id"] in (number, None):
                raise AdminError(answer["error"])
            if answer.get("id") == number:
                return answer["result"]
        raise AssertionError(f"the admin socket closed without an answer to {method}")


class Targets:
    """The process of harness.targets."""

    def __init__(self, directory):
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "harness.targets", str(directory)], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        self.ports = json.loads(self.popen.stdout.readline())
        self.pid = self.popen.pid

    def __getattr__(self, name):
        try:
            return self.__dict__["ports"][name]
        except KeyError:
            raise AttributeError(name) from None

    def control(self, line):
        with socket.create_connection(("127.0.0.1", self.ports["control"]), scaled(20)) as sock:
            sock.sendall(line.encode() + b"\n")
            with sock.makefile("rb") as reader:
                return json.loads(reader.readline())

    def wake(self, name):
        self.control("wake " + name)

    def stat(self, what, name):
        return self.control("stats")[what].get(name, 0)

    def stop(self):
        self.popen.stdin.close()
        self.popen.stdout.close()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


SSH_OPTIONS = (
    "-F none -o StrictHostKeyChecking=yes -o LogLevel=ERROR -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes "
    "-o ControlPath=none -o GSSAPIAuthentication=no -o ExitOnForwardFailure=yes"
).split()


class Keys:
    """Host key, two users' keys, and the files that name them."""

    def __init__(self, directory):
        self.dir = Path(directory)
        for name in ("host", "user", "stranger"):
            make_key(self.dir / name)
        self.authorized = self.dir / "authorized_keys"
        shutil.copy(self.dir / "user.pub", self.authorized)
        self.authorized.chmod(0o644)

    def path(self, name):
        return str(self.dir / name)

    def public(self, name):
        return (self.dir / (name + ".pub")).read_text().strip()

    def fingerprint(self, name):
        return fingerprint(self.path(name) + ".pub")

    def known_hosts(self, path, *ports, key="host", host="127.0.0.1"):
        kind, blob = self.public(key).split()[:2]
        with open(path, "w", encoding="ascii") as out:
            for port in ports:
                name = host if port == 22 else f"[{host}]:{port}"
                out.write(f"{name} {kind} {blob}\n")
        return str(path)


def make_key(path, kind="ed25519", passphrase="", *more):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path), *more], check=True)
    return path


def fingerprint(path):
    out = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], check=True, capture_output=True, text=True).stdout
    return out.split()[1]


def find_sshd():
    for path in ("/usr/sbin/sshd", "/usr/local/sbin/sshd", shutil.which("sshd") or ""):
        if path and os.access(path, os.X_OK):
            return path
    return None


def start_sshd(keys, directory, extra="", name="sshd"):
    """Stock sshd on loopback. It cannot say which port it took for 0: ports are tried until one is free."""
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    directory = Path(directory)
    for attempt in range(10):
        port = free_port()
        config = directory / f"{name}_config"
        config.write_text(
            # The first word counts: what a test asks for goes before.
            extra + f"\nListenAddress 127.0.0.1\nPort {port}\nHostKey {keys.path('host')}\nAuthorizedKeysFile {keys.authorized}\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin yes\nMaxStartups 1000:30:2000\nMaxSessions 1000\nLogLevel ERROR\nAllowStreamLocalForwarding yes\n"
        )
        program = Program([find_sshd(), "-D", "-e", "-f", config], directory / f"{name}{attempt}.log")
        program.port = port

        def answers():
            if not program.running():
                return True
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as sock:
                    return sock.recv(4) == b"SSH-"
            except OSError:
                return False

        wait_until(answers, 20, "sshd to answer")
        if program.running():
            return program
        if "in use" not in program.log():
            raise AssertionError(f"sshd does not start:\n{program.log()}")
    raise AssertionError("no free port for sshd")




def ssh_argv(keys, directory, port, user, *more, identity="user", name="ssh_known"):
    known = keys.known_hosts(Path(directory) / name, port)
    return [
        "ssh", *SSH_OPTIONS, "-o", f"UserKnownHostsFile={known}", "-i", keys.path(identity), "-p", str(port), "-l", user, *more,
    ]


def start_ssh_socks(keys, directory, to, user, *more, name="ssh_socks"):
    """ssh -D; it takes no port 0, so ports are tried until one is free. Gives the program, with `port`."""
    for attempt in range(10):
        port = free_port()
        argv = ssh_argv(keys, directory, to, user, "-N", "-D", f"127.0.0.1:{port}", *more, "127.0.0.1", name=name + "_known")
        program = Program(argv, Path(directory) / f"{name}{attempt}.log")
        program.port = port

        def answers():
            if not program.running():
                return True
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False

        wait_until(answers, 20, "ssh -D to listen")
        if program.running():
            return program
        if "in use" not in program.log() and "cannot listen" not in program.log():
            raise AssertionError(f"ssh -D failed:\n{program.log()}")
    raise AssertionError("no free port for ssh -D")


def start_relay(port, directory, delay_ms, mbit=None, name="relay"):
    """A long or narrow link to `port` (relay.py); its own port is `.port`."""
    argv = [sys.executable, Path(__file__).with_name("relay.py"), port, delay_ms, *([mbit] if mbit else [])]
    relay = Program(argv, Path(directory) / f"{name}.log")
    relay.port = int(relay.wait_log(r"^port (\d+)$")[1])
    return relay
