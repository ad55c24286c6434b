# SPDX-License-Identifier: MIT OR Apache-2.0
"""A server whose configuration is a file that the test writes again and again."""

import contextlib
import os
import shutil

from . import procs, sshwire
from .waiting import wait_until


def lua(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {lua(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "{ " + ", ".join(map(lua, value)) + " }"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


class Configured:
    """`server` is the process; its files are copies that the test may spoil."""

    def __init__(self, keys, directory, started, flags=(), env=None, **options):
        self.keys, self.dir, self.wires = keys, directory, []
        self.conf = directory / "alknet.conf"
        self.authorized = directory / "authorized_keys"
        self.host = directory / "host"
        self.policy = directory / "policy.lua"
        shutil.copy(keys.authorized, self.authorized)
        shutil.copy(keys.path("host"), self.host)
        self.host.chmod(0o600)
        self.options = {
            "key": self.host, "authorized_keys": self.authorized, "listen": ["127.0.0.1:0"],
            "admin_socket": directory / "admin.sock", **options,
        }
        if "policy" in options:
            self.policy.write_text(options["policy"])
            self.options["policy"] = self.policy
        self.write()
        argv = [procs.alknet(), "serve", "-c", self.conf, *flags]
        self.server = procs.Server(argv, directory / "serve.log", env=env or procs.environment())
        self.server.admin = directory / "admin.sock"
        started.append(self.server)
        self.server.find_port()
        # Of the first listener.
        self.port = int(self.call("listener.list")["listeners"][0]["address"].rsplit(":", 1)[1])

    def write(self, **changes):
        """Write the file; None takes an option away."""
        self.options.update(changes)
        self.options = {k: v for k, v in self.options.items() if v is not None}
        new = self.conf.with_suffix(".new")
        new.write_text("return {\n" + "".join(f"  {k} = {lua(v)},\n" for k, v in self.options.items()) + "}\n")
        os.replace(new, self.conf)

    def call(self, method, **params):
        return self.server.call(method, **params)

    def reload(self, **changes):
        if changes:
            self.write(**changes)
        return self.call("reload")

    def status(self):
        return self.call("status")

    def generation(self):
        return self.status()["generation"]

    def alone(self):
        """Wait until the old generations have left."""
        wait_until(lambda: len({w["generation"] for w in self.status()["workers"]}) == 1, 20, "the old workers to leave")

    def worker_of(self, wire):
        """The process that serves this link: the kernel knows both of its ends."""
        ends = [wire.sock.getpeername()[1], wire.sock.getsockname()[1]]
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table.readlines()[1:]]
        inode = next(row[9] for row in rows if [int(at.rsplit(":", 1)[1], 16) for at in row[1:3]] == ends)
        for pid in self.server.workers():
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                        return pid
        raise AssertionError("no worker serves it")

    def login(self, key="user", port=None):
        wire = sshwire.Wire(port or self.port)
        self.wires.append(wire)
        return wire.login(sshwire.load_key(key if os.path.isabs(str(key)) else self.keys.path(key)), "tester")

    def close(self):
        for wire in self.wires:
            wire.close()


def lives(wire):
    try:
        return wire.is_alive()
    except (sshwire.Closed, OSError):
        return False


def echoes(wire, targets, number=1):
    opened = wire.open_channel(number, "127.0.0.1", targets.echo)
    assert opened
    wire.data(opened[0], b"through")
    assert wire.read(7) == b"through"
