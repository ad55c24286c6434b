# SPDX-License-Identifier: MIT OR Apache-2.0
"""Real proxies on loopback: microsocks, danted and tinyproxy (they go out), haproxy (it stands in front)."""

import shutil
import socket

import pytest

from . import procs
from .net import free_port
from .waiting import wait_until


def _find(name):
    path = shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/sbin:/sbin:/bin")
    if path is None:
        pytest.skip(f"no {name} on this machine")
    return path


def _answers(program, port):
    def look():
        if not program.running():
            raise AssertionError(f"{program.argv[:2]} does not start:\n{program.log()}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    wait_until(look, 20, f"{program.argv[0]} to answer")
    program.port = port
    return program


def microsocks(directory, user=None, password=None):
    port = free_port()
    login = ["-u", user, "-P", password] if user else []
    return _answers(procs.Program([_find("microsocks"), "-i", "127.0.0.1", "-p", port, *login], directory / "microsocks.log"), port)


def danted(directory, rules="client pass { from: 0/0 to: 0/0 }\nsocks pass { from: 0/0 to: 0/0 }"):
    port, config = free_port(), directory / "danted.conf"
    config.write_text(
        f"logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\nclientmethod: none\nsocksmethod: none\n"
        f"user.unprivileged: nobody\n{rules}\n"
    )
    return _answers(procs.Program([_find("danted"), "-f", config, "-p", directory / "danted.pid"], directory / "danted.log"), port)


def tinyproxy(directory, login=None, connect_ports=()):
    port, config = free_port(), directory / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "MaxClients 50", "LogLevel Info", f'LogFile "{directory}/tinyproxy.txt"']
    lines += [f"BasicAuth {login[0]} {login[1]}"] if login else []
    lines += [f"ConnectPort {port}" for port in connect_ports]
    config.write_text("\n".join(lines) + "\n")
    return _answers(procs.Program([_find("tinyproxy"), "-d", "-c", config], directory / "tinyproxy.log"), port)


def haproxy(directory, to, send="send-proxy-v2", more="", accept=""):
    """Listens on loopback and hands every connection to the port `to`."""
    port, config = free_port(), directory / "haproxy.cfg"
    config.write_text(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n"
        f"listen front\n  bind 127.0.0.1:{port} {accept}\n  server one 127.0.0.1:{to} {send} {more}\n"
    )
    program = procs.Program([_find("haproxy"), "-db", "-f", config], directory / "haproxy.log")
    return _answers(program, port)
