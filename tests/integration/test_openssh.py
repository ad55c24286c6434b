# SPDX-License-Identifier: MIT OR Apache-2.0
"""Stock OpenSSH tools through alknet: -L, -D, -W, -J, ProxyCommand, scp, git; and alknet against sshd."""

import hashlib
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess

import pytest

from conftest import USER, ssh_socks
from harness.net import free_port
from harness import net, procs
from harness.waiting import scaled, wait_until


def reachable(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 1).close()
        return True
    except OSError:
        return False


def ssh_listen(ssh, to, flag, spec):
    """Start ssh with a local forward on a free port (ssh takes no port 0 there)."""
    port = free_port()
    program = ssh.start(to, "-N", flag, spec.format(port=port))
    wait_until(lambda: reachable(port) or not program.running(), 20, "ssh to listen")
    assert program.running(), program.log()
    return program, port


def test_local_forward(server, ssh, targets, workers):
    serving = server(workers=workers)
    _, port = ssh_listen(ssh, serving, "-L", "127.0.0.1:{port}:127.0.0.1:" + str(targets.echo))
    for _ in range(3):
        with net.connect(port) as sock:
            net.ask_echo(sock)


def test_local_forward_ipv6_target(server, ssh, targets, ipv6):
    _, port = ssh_listen(ssh, server(), "-L", "127.0.0.1:{port}:[::1]:" + str(targets.echo6))
    with net.connect(port) as sock:
        net.ask_echo(sock)


def test_dynamic_forward(server, ssh, targets):
    _, port = ssh_socks(ssh, server(), user=USER)
    with net.socks_connect(port, "127.0.0.1", targets.echo) as sock:
        net.ask_echo(sock)
    with net.socks_connect(port, "localhost", targets.echo) as sock:
        net.ask_echo(sock)


def test_stdio_forward(server, ssh, targets, workers):
    out = ssh.run(server(workers=workers), "-W", f"127.0.0.1:{targets.sink}", data=b"x" * 100000)
    assert out.stdout.split() == [b"100000", hashlib.sha256(b"x" * 100000).hexdigest().encode()], out


def test_several_listeners_and_ipv6(server, ssh, targets, ipv6, keys, tmp_path):
    serving = server(listen="[::1]:0")
    assert "address=[::1]:" in serving.log().replace('"', "")
    hosts = keys.known_hosts(tmp_path / "known6", serving.port, host="::1")
    argv = ["ssh", *procs.SSH_OPTIONS, "-o", f"UserKnownHostsFile={hosts}", "-i", keys.path("user"), "-p", serving.port]
    argv += ["-l", USER, "-W", f"127.0.0.1:{targets.sink}", "::1"]
    out = subprocess.run(list(map(str, argv)), input=b"six", capture_output=True, timeout=scaled(30), check=False)
    assert out.stdout.startswith(b"3 "), out
    assert serving.lines("connection opened", "::1")


def jump_config(tmp_path, keys, serving, daemon):
    keys.known_hosts(tmp_path / "jump_known", serving.port, daemon.port)
    config = tmp_path / "jump_config"
    options = "\n  ".join(o.replace("=", " ", 1) for o in procs.SSH_OPTIONS if "=" in o)
    config.write_text(
        f"Host *\n  {options}\n  UserKnownHostsFile {tmp_path}/jump_known\n  IdentityFile {keys.path('user')}\n"
        f"Host jump\n  HostName 127.0.0.1\n  Port {serving.port}\n  User {USER}\n"
        f"Host real\n  HostName 127.0.0.1\n  Port {daemon.port}\n  User {daemon.user}\n"
    )
    return config


def test_jump_host(server, sshd, keys, tmp_path):
    """ssh -J: a shell on a real sshd, with alknet between."""
    config = jump_config(tmp_path, keys, server(), sshd())
    out = subprocess.run(
        ["ssh", "-F", config, "-J", "jump", "real", "cat; echo done"], input=b"typed\n", capture_output=True,
        timeout=scaled(30), check=False,
    )
    assert (out.returncode, out.stdout) == (0, b"typed\ndone\n"), out


def proxy_command(keys, tmp_path, serving):
    keys.known_hosts(tmp_path / "stdio_known", serving.port)
    words = [
        procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", keys.path("user"), "--user", USER,
        "--known-hosts", tmp_path / "stdio_known", "--stdio", "%h:%p",
    ]
    return "ProxyCommand=" + shlex.join(map(str, words)).replace("'%h:%p'", "%h:%p")


@pytest.fixture
def through_stdio(server, sshd, keys, tmp_path):
    """ssh's words to reach a real sshd through `alknet connect --stdio`."""
    serving, daemon = server(), sshd("Subsystem sftp internal-sftp")
    known = keys.known_hosts(tmp_path / "inner_known", daemon.port)
    words = [*procs.SSH_OPTIONS, "-o", proxy_command(keys, tmp_path, serving), "-o", f"UserKnownHostsFile={known}"]
    words += ["-i", keys.path("user"), "-o", f"Port={daemon.port}", "-o", f"User={daemon.user}"]
    return words


def run(argv, **more):
    return subprocess.run(
        list(map(str, argv)), capture_output=True, timeout=scaled(60), env=procs.environment(**more.pop("env", {})),
        check=False, **more,
    )


def test_proxy_command_shell(through_stdio):
    out = run(["ssh", *through_stdio, "127.0.0.1", "cat; exit 7"], input=b"x" * 1000000)
    assert (out.returncode, len(out.stdout)) == (7, 1000000), out.stderr
    assert out.stderr == b"", "--stdio is silent"


def test_proxy_command_scp(through_stdio, tmp_path):
    source, there, back = tmp_path / "source", tmp_path / "there", tmp_path / "back"
    source.write_bytes(b"".join(map(bytes, net.pattern(3000001))))
    for words in ([source, f"127.0.0.1:{there}"], [f"127.0.0.1:{there}", back]):
        out = run(["scp", *through_stdio, *words])
        assert out.returncode == 0, out
    assert back.read_bytes() == source.read_bytes()


def test_proxy_command_git(through_stdio, tmp_path):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    env = {
        "GIT_SSH_COMMAND": shlex.join(["ssh", *map(str, through_stdio)]), "GIT_SSH_VARIANT": "ssh",
        "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": str(tmp_path),
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com", "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.com",
    }
    bare, first, second = tmp_path / "bare.git", tmp_path / "first", tmp_path / "second"
    url = f"ssh://127.0.0.1{bare}"
    assert run(["git", "init", "-q", "--bare", "-b", "main", bare]).returncode == 0
    (tmp_path / "first").mkdir()
    for words in (["init", "-q", "-b", "main"], ["remote", "add", "origin", url]):
        assert run(["git", *words], cwd=first, env=env).returncode == 0
    (first / "file").write_text("line\n" * 100000)
    assert run(["git", "add", "file"], cwd=first, env=env).returncode == 0
    assert run(["git", "commit", "-q", "-m", "one"], cwd=first, env=env).returncode == 0
    out = run(["git", "push", "-q", "origin", "main"], cwd=first, env=env)
    assert out.returncode == 0, out
    out = run(["git", "clone", "-q", url, second], env=env)
    assert out.returncode == 0, out
    assert (second / "file").read_text() == (first / "file").read_text()


def test_stdio_says_why_it_failed(server, keys, tmp_path, targets):
    """--stdio to a place that refuses: one sentence, status 1, nothing on stdout."""
    serving = server()
    known = keys.known_hosts(tmp_path / "k", serving.port)
    argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", keys.path("user")]
    argv += ["--user", USER, "--known-hosts", known, "--stdio", f"127.0.0.1:{targets.refused}"]
    out = run(argv, stdin=subprocess.DEVNULL)
    assert (out.returncode, out.stdout) == (1, b"")
    assert len(out.stderr.strip().splitlines()) == 1 and str(targets.refused).encode() in out.stderr, out.stderr


def test_stdio_half_close(server, keys, tmp_path, targets):
    serving = server()
    known = keys.known_hosts(tmp_path / "k", serving.port)
    argv = [procs.alknet(), "connect", "--server", f"127.0.0.1:{serving.port}", "--identity", keys.path("user")]
    argv += ["--user", USER, "--known-hosts", known, "--stdio"]
    out = run([*argv, f"127.0.0.1:{targets.sink}"], input=b"y" * 5000000)
    assert out.returncode == 0, out.stderr
    assert out.stdout.split() == [b"5000000", hashlib.sha256(b"y" * 5000000).hexdigest().encode()]
    out = run([*argv, f"127.0.0.1:{targets.source}"], input=b"5000000\n")
    assert hashlib.sha256(out.stdout).hexdigest() == net.pattern_sha256(5000000)


def test_connection_sharing_survives_a_refused_command(server, ssh, targets, tmp_path):
    """A command on a shared connection is refused; the connection and its forwards go on."""
    serving = server()
    master = tmp_path / "m"
    port = free_port()
    program = ssh.start(serving, "-N", "-M", "-S", master, "-L", f"127.0.0.1:{port}:127.0.0.1:{targets.echo}")
    wait_until(lambda: master.exists() and reachable(port), 20, "the master connection")
    with net.connect(port) as sock:
        net.ask_echo(sock)
        out = ssh.run(serving, "-S", master, command=("true",))
        assert out.returncode != 0
        net.ask_echo(sock)
    assert program.running()


def test_libssh_finds_the_program_first(sanitized):
    """What the program defines ahead of the libraries is what libssh calls; else all works, slower, and nobody sees it."""
    env = {**os.environ, "LD_BIND_NOW": "1", "LD_DEBUG": "bindings"}
    out = subprocess.run([procs.alknet(), "--version"], env=env, capture_output=True, text=True, timeout=scaled(60), check=True)
    bound = set(re.findall(r"binding file \S*/libssh\.so\S* \[0\] to \S*alknet \[0\]: normal symbol `(\w+)'", out.stderr))
    ours = {"recv", "send", "poll", "ssh_get_random", "EVP_PKEY_new_raw_private_key", "EVP_PKEY_get_raw_private_key"}
    if platform.machine() == "x86_64" and not sanitized:
        ours.add("memcpy")
    assert ours <= bound, ours - bound
