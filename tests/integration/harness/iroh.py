# SPDX-License-Identifier: MIT OR Apache-2.0
"""Servers and clients over iroh, and what else speaks iroh on this machine."""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from . import procs
from .waiting import patient, scaled

USER = "tester"


def is_built(name="iroh"):
    try:
        return (Path(procs.plugin_dir()) / f"{name}.so").exists()
    except (FileNotFoundError, TypeError):
        return False


class Server(procs.Server):
    """Where one of TCP has a port this has an id, and addresses."""

    id = udp = None

    def find_port(self):
        self.id = self.wait_log(r'msg="?listening"? .*address=([a-z0-9]{52})$')[1]
        self.find_udp()

    def find_udp(self, count=1):
        self.udp = self.wait_log(r'msg="iroh endpoint" .*udp="?([^"\n]*?)"? pid', count=count)[1].split(", ")

    def helper(self):
        return int(self.wait_log(r'msg="iroh endpoint" .*pid=(\d+)')[1])

    def session(self, n=1):
        return self.call("session.show", id=n)["session"]


class Ends:
    """Makes both, as a test asks; everything is ended with it."""

    def __init__(self, keys, directory, started):
        self.keys, self.dir, self.started, self.count = keys, directory, started, itertools.count()

    def serve(self, *flags, relay="none", listen="127.0.0.1:0", key=None, policy=None, conf=None, authorized=True, wrap=(), wait=True):
        number = next(self.count)
        argv = [*wrap, procs.alknet(), "serve", "--transport", "iroh", "--key", self.keys.path("host")]
        argv += ["--admin-socket", self.dir / f"iroh_admin{number}.sock", "--iroh-key", key or self.dir / "iroh_key"]
        if authorized:
            argv += ["--authorized-keys", self.keys.authorized]
        if listen:
            argv += ["--listen", listen]
        if relay:
            argv += ["--iroh-relay", relay]
        if policy is not None:
            script = self.dir / f"iroh_policy{number}.lua"
            script.write_text(policy)
            argv += ["--policy", script]
        argv += self.file(number, conf)
        running = Server([*argv, *flags], self.dir / f"iroh_serve{number}.log", env=procs.environment(HOME=str(self.dir)))
        running.admin = argv[argv.index("--admin-socket") + 1]
        self.started.append(running)
        if wait:
            running.find_port()
        return running

    def file(self, number, conf):
        if conf is None:
            return []
        path = self.dir / f"iroh{number}.conf"
        path.write_text("return {\n" + conf + "\n}\n")
        return ["-c", path]

    def connect(self, peer, *flags, relay="none", addresses=None, known=True, conf=None, identity="user", wrap=(), wait=True):
        number = next(self.count)
        name = getattr(peer, "id", peer)
        argv = [*wrap, procs.alknet(), "connect", "--transport", "iroh", "--peer", name, "--user", USER]
        argv += ["--identity", self.keys.path(identity), "--socks5", "127.0.0.1:0", "--log-level", "info"]
        argv += ["--admin-socket", self.dir / f"iroh_client{number}.sock"]
        hosts = self.dir / f"iroh_known{number}"
        if known:
            hosts.write_text(f"{name} {self.keys.public('host')}\n")
        argv += ["--known-hosts", hosts]
        if addresses is None:
            addresses = getattr(peer, "udp", ())
        for address in addresses:
            argv += ["--peer-address", address]
        if relay:
            argv += ["--iroh-relay", relay]
        argv += self.file(number, conf)
        running = procs.Client([*argv, *flags], self.dir / f"iroh_connect{number}.log", env=procs.environment(HOME=str(self.dir)))
        running.admin = self.dir / f"iroh_client{number}.sock"
        self.started.append(running)
        if wait:
            running.find_port()
        return running


def other_user(pid):
    """The user of a process."""
    return os.stat(f"/proc/{pid}").st_uid


class Helper:
    """alknet-iroh alone, with us as its host (crate/src/packet.rs)."""

    def __init__(self, setup="", wrap=(), **start):
        """`setup`: what the shell does before it; `wrap`: where that is."""
        place = Path(procs.plugin_dir())
        program = next(at for at in (place / "alknet-iroh", place.parent / "alknet-iroh") if at.exists())
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [*wrap, "sh", "-c", f'{setup} exec "$0" 3<&0 0</dev/null', program]
            self.popen = subprocess.Popen(argv, stdin=theirs, env=procs.environment())
        settings = {"accept": False, "bind": ["127.0.0.1:0"], "direct": True, "relays": [], "n0": False, "mdns": False}
        self.say(start={**settings, **start})
        ready, _ = self.hear("ready")
        self.id, self.udp = ready["id"], ready["bound"]

    def say(self, **packet):
        self.control.send(json.dumps(packet).encode())

    def hear(self, wanted, timeout=30):
        """The next packet of that name, and what came with it; EOFError: it has hung up."""
        self.control.settimeout(scaled(timeout))
        while True:
            text, fds, _, _ = socket.recv_fds(self.control, 1 << 16, 1)
            if not text:
                raise EOFError
            [(name, body)] = json.loads(text).items()
            if name == wanted:
                return body, socket.socket(fileno=fds[0]) if fds else None

    def dial(self, other):
        self.say(dial={"dial": 1, "peer": other.id, "addresses": other.udp, "timeout_ms": int(scaled(20) * 1000)})

    def finish(self):
        self.control.close()
        try:
            return self.popen.wait(patient(10))
        finally:
            self.popen.kill()
            self.popen.wait()


def hex_id(text):
    """The other form of an id."""
    alphabet = "ybndrfg8ejkmcpqxot1uwisza345h769"
    bits = "".join(f"{alphabet.index(c):05b}" for c in text)
    assert re.fullmatch("[01]{256}0000", bits)
    return f"{int(bits[:256], 2):064x}"


def build_dir():
    return Path(os.environ.get("ALKNET_BUILDDIR") or procs.ROOT / "build")


def tool(name):
    """A program of crate/, built by `make check`."""
    path = build_dir() / "cargo" / name
    if not path.exists():
        pytest.skip(f"{name} is not built: make {path.parent.name}/{name}")
    return path


class Tool(procs.Program):
    """One that lives until its input ends."""

    def __init__(self, name, words, log, wrap=()):
        super().__init__([*wrap, tool(name), *words], log, stdin=subprocess.PIPE)

    def finish(self):
        self.popen.stdin.close()
        return self.wait(10)


def relay(directory, port=0, name="relay", host="127.0.0.1", wrap=()):
    """A real relay of iroh's own code, over plain HTTP; `url` is where."""
    program = Tool("alknet-iroh-relay", [f"{host}:{port}"], directory / f"{name}.log", wrap)
    program.url = program.wait_log(r"^relay (http://\S+)$")[1].rstrip("/")
    program.port = int(program.url.rsplit(":", 1)[1])
    return program


def npm_peer():
    """The argv and the environment of an endpoint that is not alknet's (iroh_peer.cjs)."""
    node, package = shutil.which("node"), build_dir() / "npm" / "node_modules" / "@number0" / "iroh"
    if node is None or not package.exists():
        pytest.skip(f"the npm package @number0/iroh is not in {build_dir() / 'npm'}: ./quickstart check puts it there")
    return [node, procs.HERE / "iroh_peer.cjs"], procs.environment(IROH_NPM=str(package))
