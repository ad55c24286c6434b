# SPDX-License-Identifier: MIT OR Apache-2.0
"""SSH inside TLS, and what people use for that: stunnel in front of sshd and behind ssh -D, and trojan, which is TLS
alone. And shadowsocks-libev, which is one layer of AES-GCM and no session. `also` of a program is another one that
belongs to its end."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

from harness import procs, sshwire
from harness.nginx import free_port
from harness.waiting import wait_until

NAME = "example.test"


def certificate(lab):
    cert, key = lab.dir / "cert.pem", lab.dir / "cert.key"
    if not cert.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert,
             "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"], check=True, capture_output=True)
        key.chmod(0o600)
    return cert, key


def serve_flags(lab):
    cert, key = certificate(lab)
    return ["--transport", "tls", "--tls-cert", cert, "--tls-key", key]


CONNECT_FLAGS = ["--transport", "tls", "--insecure"]


def answers(program):
    def look():
        assert program.running(), program.log()
        try:
            socket.create_connection(("127.0.0.1", program.port), 1).close()
        except OSError:
            return False
        return True

    wait_until(look, 20, f"{program.argv[0]} to listen")
    return program


def cpu(pid):
    """Of a program with threads: what the kernel counts for all of them."""
    seconds = 0.0
    for one in procs.tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
            seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return seconds


def start(lab, name, argv, port):
    program = procs.Program(argv, lab.dir / f"{name}.log")
    lab.running.append(program)
    program.port, program.cpu = port, cpu
    return answers(program)


def stunnel(lab, name, text, to):
    port, conf = free_port(), lab.dir / f"{name}.conf"
    conf.write_text(
        f"foreground = yes\npid =\ndebug = 3\n{text}[ssh]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{to}\n"
        "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n")
    return start(lab, name, [shutil.which("stunnel4") or "stunnel", conf], port)


def stunnel_serve(lab, name):
    sshd = lab.serve("openssh")
    cert, key = certificate(lab)
    program = stunnel(lab, name, f"cert = {cert}\nkey = {key}\n", sshd.port)
    program.user, program.also = sshd.user, sshd
    return program


def stunnel_connect(lab, name, to):
    program = stunnel(lab, name, "client = yes\n", to.port)
    program.user = to.user
    socks = lab.connect("openssh", program)
    socks.also = program
    return socks


def trojan(lab, name, **more):
    port, conf = free_port(), lab.dir / f"{name}.json"
    more["ssl"].update(alpn=["http/1.1"], cipher_tls13="TLS_AES_256_GCM_SHA384")
    conf.write_text(json.dumps({
        "local_addr": "127.0.0.1", "local_port": port, "remote_addr": "127.0.0.1", "password": ["x"], "log_level": 5,
        "tcp": {"no_delay": True, "keep_alive": True}, **more}))
    return start(lab, name, ["trojan", conf], port)


def trojan_serve(lab, name):
    cert, key = certificate(lab)
    program = trojan(lab, name, run_type="server", remote_port=1, ssl={"cert": str(cert), "key": str(key), "cipher": "", "prefer_server_cipher": True})
    program.user = "bench"
    return program


def trojan_connect(lab, name, to):
    return trojan(
        lab, name, run_type="client", remote_port=to.port,
        ssl={"verify": False, "verify_hostname": False, "cert": "", "cipher": "", "sni": NAME, "reuse_session": True})


SHADOWSOCKS = ["-k", "bench", "-m", "aes-256-gcm", "-t", "600"]


def shadowsocks_serve(lab, name):
    port = free_port()
    program = start(lab, name, ["ss-server", "-s", "127.0.0.1", "-p", str(port), *SHADOWSOCKS], port)
    program.user = "bench"
    return program


def shadowsocks_connect(lab, name, to):
    port = free_port()
    return start(lab, name, ["ss-local", "-s", "127.0.0.1", "-p", str(to.port), "-l", str(port), *SHADOWSOCKS], port)


SERVE = {"stunnel": stunnel_serve, "trojan": trojan_serve, "shadowsocks": shadowsocks_serve}
CONNECT = {"stunnel": stunnel_connect, "trojan": trojan_connect, "shadowsocks": shadowsocks_connect}


def wire(port):
    """A session of the benchmark's own inside TLS."""
    context = ssl._create_unverified_context()
    made = sshwire.Wire(port, start=False)
    made.sock = context.wrap_socket(made.sock, server_hostname=NAME)
    made.hello()
    made.exchange_keys()
    return made


def goals(medians):
    """What TLS adds to tcp against what stunnel adds to OpenSSH; tcp against shadowsocks."""
    out = []

    def value(pair, row):
        return medians.get(pair, {}).get(row)

    def add(row, name, number, bound, pair="alknettls+alknettls"):
        out.append({"row": row, "pair": pair, "value": number, "goal": bound, "better": "lower", "reached": number <= bound, "of": name})

    for row, bound in (("up: both CPU s/GB", 0.8), ("down: both CPU s/GB", 0.8), ("64 B alone: p50 us", 0.9), ("short connection: both CPU ms", 0.6)):
        ours, other = value("alknet+alknet", row), value("shadowsocks+shadowsocks", row)
        if None not in (ours, other):
            add(row, "of shadowsocks's", ours / other, bound, "alknet+alknet")

    for way in ("up", "down"):
        row = f"{way}: both CPU s/GB"
        tls, tcp, stunnel_, openssh = (value(pair, row) for pair in ("alknettls+alknettls", "alknet+alknet", "stunnel+stunnel", "openssh+openssh"))
        if None not in (tls, tcp, stunnel_, openssh):
            add(row, "added to tcp, of what stunnel adds to OpenSSH", (tls - tcp) / (stunnel_ - openssh), 0.5)
        other = value("trojan+trojan", row)
        if None not in (tls, other):
            add(row, "of trojan's", tls / other, 1)
    row = "64 B alone: p50 us"
    tls, other = value("alknettls+alknettls", row), value("stunnel+stunnel", row)
    if None not in (tls, other):
        add(row, "of stunnel's", tls / other, 0.7)
    for row in [row for row in medians.get("alknettls+alknettls", {}) if row.startswith("PSS KB an idle session")]:
        tcp = value("alknet+alknet", row)
        if tcp is not None:
            add(row, "more than over tcp", value("alknettls+alknettls", row) - tcp, 48 * 1.024)
    return out
