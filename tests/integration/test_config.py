# SPDX-License-Identifier: MIT OR Apache-2.0
"""The command line and the configuration file: what is wrong is told in one sentence with its name, status 2."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from harness import compiler, procs
from harness.waiting import patient, scaled, wait_until


def run(*words, env=None, stdin=subprocess.DEVNULL):
    return subprocess.run(
        [procs.alknet(), *map(str, words)], stdin=stdin, capture_output=True, text=True, timeout=scaled(20),
        env=env or procs.environment(), check=False,
    )


def one_sentence(out, *names, status=2):
    """Status, silence on stdout, and one line on stderr that has the names in it."""
    right = out.returncode == status and out.stdout == "" and not procs.SANITIZER.search(out.stderr)
    right = right and len(out.stderr.strip().splitlines()) == 1 and all(str(name) in out.stderr for name in names)
    if not right:
        pytest.fail(f"wanted status {status} and one line with {[str(n) for n in names]}, got {out.returncode}:\n{out.stdout}{out.stderr}", pytrace=False)


@pytest.fixture
def serve_words(keys):
    return ["serve", "--key", keys.path("host"), "--authorized-keys", keys.authorized, "--listen", "127.0.0.1:0", "--admin-socket", "none"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--nonsense"], "nonsense"),
        (["--max-channel", "5"], "max-channels"),
        (["--max-channels", "many"], "max-channels"),
        (["--max-channels", "0"], "max-channels"),
        (["--max-channels", "1025"], "max-channels"),
        (["--max-channels", "-1"], "max-channels"),
        (["--max-channels", "99999999999999999999"], "max-channels"),
        (["--max-channels"], "max-channels"),
        (["--max-channels", ""], "max-channels"),
        (["--workers", "257"], "workers"),
        (["--workers", "some"], "workers"),
        (["--handshake-timeout", "soon"], "handshake-timeout"),
        (["--handshake-timeout", "-5"], "handshake-timeout"),
        (["--handshake-timeout", "5 parsecs"], "handshake-timeout"),
        (["--rekey-bytes", "1Q"], "rekey-bytes"),
        (["--log-level", "loud"], "log-level"),
        (["--log-format", "xml"], "log-format"),
        (["--log-target", "printer"], "log-target"),
        (["--max-startups", "10"], "max-startups"),
        (["--max-startups", "10:200:5"], "max-startups"),
        (["--listen", "127.0.0.1"], "127.0.0.1"),
        (["--listen", "127.0.0.1:99999"], "99999"),
        (["--listen", "127.0.0.1:x"], "127.0.0.1:x"),
        (["--listen", "[::1:22"], "[::1:22"),
        (["--listen", "203.0.113.77:0"], "203.0.113.77"),
        (["--transport", "pigeon"], "pigeon"),
        (["--user", "no-such-user-here"], "no-such-user-here"),
        (["--key", "/nonexistent/key"], "/nonexistent/key"),
        (["--key", "/dev/null"], "/dev/null"),
        (["--key", "/"], "key"),
        (["--authorized-keys", "/nonexistent/keys"], "/nonexistent/keys"),
        (["--policy", "/nonexistent/policy.lua"], "/nonexistent/policy.lua"),
        (["-c", "/nonexistent/alknet.conf"], "/nonexistent/alknet.conf"),
        (["--admin-socket", "/nonexistent/dir/" + "a" * 120], "admin"),
        (["stray"], "stray"),
        (["--socks5", "127.0.0.1:0"], "socks5"),
        (["--log-level=loud"], "log-level"),
    ],
    ids=lambda value: "-".join(value)[:40].replace("/", "_") if isinstance(value, list) else "",
)
def test_serve_flags(serve_words, words, name):
    one_sentence(run(*serve_words, *words), name)


def test_transports_of_a_later_version_are_named(serve_words):
    one_sentence(run(*serve_words, "--transport", "tls"), "tls")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--server", ""], "server"),
        (["--server", "host:port"], "host:port"),
        (["--server", "host:0"], "host:0"),
        (["--server", "host:70000"], "70000"),
        (["--server", "root@host"], "who logs in is given by --user"),
        (["--socks5", "nowhere"], "socks5"),
        (["--forward", "8080"], "8080"),
        (["--forward", "x:y"], "x:y"),
        (["--forward", "1:host:99999"], "99999"),
        (["--forward", "1:relative/path"], "relative/path"),
        (["--stdio", "host"], "host"),
        (["--host-key-fingerprint", "MD5:aa"], "host-key-fingerprint"),
        (["--host-key-fingerprint", "SHA256:short"], "host-key-fingerprint"),
        (["--identity", "/nonexistent/id"], "/nonexistent/id"),
        (["--accept-new-host-key=maybe"], "accept-new-host-key"),
        (["--workers", "2"], "workers"),
        (["--user", ""], "user"),
        (["--user", "a\nb"], "user"),
        (["--user", "u" * 65], "user"),
        (["--user", "DOM\\anna"], "--user"),
        (["--user", "a$b"], "--user"),
        (["--user=-x"], "--user"),
        (["--wrong"], "wrong"),
        (["surplus"], "surplus"),
        (["anna@host.example"], "--server HOST[:PORT]"),
    ],
    ids=lambda value: "-".join(value)[:40].replace("/", "_") if isinstance(value, list) else "",
)
def test_connect_flags(keys, words, name, tmp_path):
    base = ["connect", "--server", "127.0.0.1:9", "--identity", keys.path("user"), "--socks5", "127.0.0.1:0"]
    one_sentence(run(*base, "--known-hosts", tmp_path / "none", *words), name)


def test_what_is_missing_is_named(keys):
    one_sentence(run("serve", "--authorized-keys", keys.authorized), "key")
    one_sentence(run("connect", "--identity", keys.path("user")), "server")
    one_sentence(run("connect", "--server", "127.0.0.1:9"), "identity")
    assert run().returncode == 2
    assert run("dance").returncode == 2 and "dance" in run("dance").stderr


def test_environment_fills_in(client, server, keys, tmp_path):
    """ALKNET_SERVER and ALKNET_IDENTITY; a flag goes before."""
    serving = server()
    known = keys.known_hosts(tmp_path / "known", serving.port)
    env = procs.environment(ALKNET_SERVER=f"127.0.0.1:{serving.port}", ALKNET_IDENTITY=keys.path("user"))
    argv = [procs.alknet(), "connect", "--known-hosts", known, "--user", "tester", "--socks5", "127.0.0.1:0"]
    program = procs.Client(argv, tmp_path / "env.log", env=env)
    try:
        program.find_port()
    finally:
        program.finish()
    env["ALKNET_SERVER"] = "127.0.0.1:1"
    program = procs.Client([*argv, "--server", f"127.0.0.1:{serving.port}"], tmp_path / "env2.log", env=env)
    try:
        program.find_port()
    finally:
        program.finish()


BAD_FILES = {
    "syntax": ("return { key = ", "alknet.conf:1"),
    "unknown": ("return {\n max_chanels = 5 }", "alknet.conf:2: max_chanels: there is no such option; did you mean max_channels?"),
    "type": ("return { max_channels = {} }", "alknet.conf:1: max_channels"),
    "range": ("return {\n\n max_channels = 5000 }", "alknet.conf:3: max_channels"),
    "section": ("return {\n focward = { a = 1 } }", "alknet.conf:2: focward: there is no such option; did you mean forward?"),
    "no-table": ("return 5", "alknet.conf"),
    "nothing": ("", "alknet.conf"),
    "loop": ("while true do end", "alknet.conf"),
    "memory": ("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) end", "alknet.conf"),
    "library": ("return { key = os.getenv('HOME') }", "alknet.conf"),
    "require": ("require 'os'", "alknet.conf"),
    "error": ("error({})", "alknet.conf"),
    "bytecode": ("\x1bLua", "alknet.conf"),
    "number-key": ("return { 'a' }", "alknet.conf"),
    "client-key": ("return { socks5 = '127.0.0.1:1' }", "socks5"),
    "function": ("return { key = function() end }", "key"),
    "infinity": ("return { max_channels = 1/0 }", "max_channels"),
    "fraction": ("return { max_channels = 2.5 }", "max_channels"),
    "nul": ("return { key = 'a\\0b' }", "key"),
    "listen": ("return { listen = { { adress = '127.0.0.1:0' } } }", "listen"),
    "self": ("local t = {} t.tcp = t return t", "tcp"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("command", ["check", "serve"])
def test_configuration_files(serve_words, tmp_path, name, command):
    text, expected = BAD_FILES[name]
    path = tmp_path / "alknet.conf"
    path.write_text(text)
    words = ["check"] if command == "check" else serve_words
    if command == "serve" and name == "listen":
        at = words.index("--listen")
        words = words[:at] + words[at + 2 :]
    one_sentence(run(*words, "-c", path), expected)


def good_file(keys, tmp_path, more=""):
    path = tmp_path / "good.conf"
    path.write_text(
        f'return {{\n  key = "{keys.path("host")}", authorized_keys = "{keys.authorized}",\n  listen = "127.0.0.1:0", '
        f'admin_socket = "{tmp_path}/a.sock",\n{more}\n}}\n'
    )
    return path


def test_check(keys, tmp_path):
    out = run("check", "-c", good_file(keys, tmp_path))
    assert out.returncode == 0, out.stderr
    assert not os.path.exists(tmp_path / "a.sock"), "check starts nothing"


def test_check_reads_what_the_file_names(keys, tmp_path):
    one_sentence(run("check", "-c", good_file(keys, tmp_path, 'policy = "/nonexistent.lua"')), "/nonexistent.lua")
    script = tmp_path / "p.lua"
    script.write_text("return { on_open = function() return 'deny' end,, }")
    one_sentence(run("check", "-c", good_file(keys, tmp_path, f'policy = "{script}"')), "p.lua:1")


@pytest.mark.parametrize("line, words", [
    ('transport = "tls"', "a tls server needs a certificate and its key"),
    ('listen = { { transport = "tls", address = "127.0.0.1:0" } }', "a tls server needs a certificate and its key"),
    ('transport = "tls", tls = { acme_domain = { "example.org" }, acme_http = "nonsense" }', "acme_http: nonsense"),
    ('transport = "tls", tls = { stealth_secret = "foo" }', "stealth_secret: must be 32 bytes in base64"),
    ('listen = "127.0.0.1:99999"', "the port 99999 is not between 0 and 65535"),
    ('listen = "/run/socket"', "has no :PORT"),
    ('services = { "nosuch" }', "services: plugin nosuch"),
    ('services = { "tcp" }', "plugin tcp is a transport, not a service"),
    ('bus = { access = { "foo" } }', "access: foo: must be PATTERN=SCOPE"),
    ('bus = { listen_group = "nosuch" }', 'listen_group: there is no group "nosuch"'),
    ('secret = { host_key = "m/1" }', "host_key: level 1 must be hardened"),
])
def test_check_refuses_what_serve_would(keys, tmp_path, line, words):
    path = good_file(keys, tmp_path, line)
    one_sentence(run("check", "-c", path), words)
    assert run("serve", "-c", path).returncode == 2


def test_check_parses_private_keys(keys, tmp_path):
    """What serve or connect would refuse at its start."""
    path = good_file(keys, tmp_path)
    assert "ok: key: 1 host key" in run("check", "-c", path).stdout
    pem, short = tmp_path / "pem", tmp_path / "short"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(pem)], check=True, capture_output=True)
    short.write_bytes(Path(keys.path("host")).read_bytes()[:150])
    short.chmod(0o600)
    pem.chmod(0o600)
    text = path.read_text()
    for bad, words in ((pem, "ssh-keygen -p"), (short, str(short))):
        path.write_text(text.replace(keys.path("host"), str(bad)))
        one_sentence(run("check", "-c", path), words, "key")
        one_sentence(run("check", "--connect", "--server", "x", "--identity", bad), words, "identity")
    assert run("check", "--connect", "--server", "x", "--identity", keys.path("user")).returncode == 0


def test_dump_defaults_is_a_configuration(keys, tmp_path):
    """What --dump-defaults prints can be read back, with what has no default added."""
    out = run("check", "--dump-defaults")
    assert out.returncode == 0 and "return {" in out.stdout
    path = tmp_path / "defaults.conf"
    text = out.stdout.rstrip()
    assert text.endswith("}")
    path.write_text(text[:-1] + f'\n key = "{keys.path("host")}", authorized_keys = "{keys.authorized}",\n}}\n')
    again = run("check", "-c", path)
    assert again.returncode == 0, again.stderr


def test_dump_defaults_of_a_client(keys, tmp_path):
    out = run("check", "--connect", "--dump-defaults")
    assert out.returncode == 0 and "max_startups" not in out.stdout
    path = tmp_path / "client.conf"
    path.write_text(out.stdout)
    again = run("check", "--connect", "-c", path, "--server", "127.0.0.1", "--identity", keys.path("user"))
    assert again.returncode == 0, again.stderr


def test_a_user_is_no_part_of_the_server(keys):
    one_sentence(run("check", "--connect", "--server", "me@127.0.0.1:2222", "--identity", keys.path("user")), "--server: must be HOST or HOST:PORT; who logs in is given by --user")


def test_help_and_version():
    for words in (["--help"], ["serve", "--help"], ["connect", "--help"], ["check", "--help"], ["--version"], ["-V"]):
        out = run(*words)
        assert out.returncode == 0 and out.stdout and out.stderr == "", words
    for words in (["secret", "--help"], ["secret", "new", "--help"], ["completion", "--help"], ["help", "completion"]):
        out = run(*words)
        name = next(word for word in words if word in ("secret", "completion"))
        assert out.returncode == 0 and out.stdout.startswith(f"Usage: alknet {name} ") and len(out.stdout.splitlines()) == 2, out
    assert "--max-auth-attempts" in run("serve", "--help").stdout
    assert "--forward" in run("connect", "--help").stdout
    assert "--socks5" not in run("serve", "--help").stdout


def test_the_manual_page_has_all():
    """Commands, defaults that are on, and what the environment says."""
    text = run("--help-man").stdout
    for name in ("serve", "connect", "check", "policy test", "pub", "secret new", "completion"):
        assert f".Nm alknet Cm {name}\n" in text, name
    assert "It is on by default;\n.Fl -no-sandbox\nturns it off." in text
    for name in ("ALKNET_SERVER", "ALKNET_BUS", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "XDG_STATE_HOME", "ALKNET_JOURNAL_SOCKET"):
        assert f".It Ev {name}\n" in text, name
    for name in ("stealth_secret_file", "identity_passphrase_file", "proxy_file"):
        assert name in text and name in run("connect", "--help").stdout
    one_sentence(run(), "completion", "policy")
    one_sentence(run("check", "alknet.conf"), "-c FILE")


def test_flag_goes_before_file(server):
    serving = server("--max-channels", "7", conf="max_channels = 9, log_level = 'debug'")
    status = serving.call("status")
    assert status
    assert serving.lines("listening")


def test_several_listeners_from_the_file(keys, tmp_path):
    path = good_file(keys, tmp_path)
    path.write_text(path.read_text().replace('listen = "127.0.0.1:0"', 'listen = { { transport = "tcp", address = "127.0.0.1:0" }, "127.0.0.1:0" }'))
    program = procs.Server([procs.alknet(), "serve", "-c", path], tmp_path / "two.log")
    program.admin = tmp_path / "a.sock"
    try:
        program.wait_log("listening", count=2)
        ports = {line.rsplit(":", 1)[1].strip('"') for line in program.lines("listening")}
        assert len(ports) == 2
        for port in ports:
            with socket.create_connection(("127.0.0.1", int(port))) as sock:
                assert sock.recv(4) == b"SSH-"
    finally:
        program.finish()


def test_address_in_use(serve_words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_sentence(run(*serve_words, "--listen", f"127.0.0.1:{port}"), f"127.0.0.1:{port}", "in use")


def pem_key(directory, kind="ed25519"):
    path = directory / f"pem_{kind}"
    if kind == "pkcs8-ed25519":
        if not shutil.which("openssl"):
            pytest.skip("openssl is not installed")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True, capture_output=True)
    else:
        procs.make_key(path, "rsa", "", "-m", kind)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("kind", ["PEM", "PKCS8", "pkcs8-ed25519"])
def test_pem_keys_are_refused_with_the_way_out(serve_words, keys, tmp_path, kind):
    path = pem_key(tmp_path, kind)
    one_sentence(run(*serve_words, "--key", path), path, "ssh-keygen -p -f")
    one_sentence(run("connect", "--server", "127.0.0.1:9", "--identity", path), path, "ssh-keygen -p -f")


def test_host_key_that_is_too_short(serve_words, tmp_path):
    path = procs.make_key(tmp_path / "short", "rsa", "", "-b", "2048")
    one_sentence(run(*serve_words, "--key", path), path, "2048", "3072")


def test_public_key_in_place_of_the_private_one(serve_words, keys):
    one_sentence(run(*serve_words, "--key", keys.path("host") + ".pub"), "host.pub")


def test_encrypted_host_key(serve_words, tmp_path):
    """A server has nobody to ask for a passphrase."""
    path = procs.make_key(tmp_path / "locked", "ed25519", "secret")
    out = subprocess.run(
        [procs.alknet(), *map(str, serve_words), "--key", str(path)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=scaled(20), env=procs.environment(), check=False, start_new_session=True,
    )
    one_sentence(out, path, "passphrase")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_t46_key_that_others_may_read(serve_words, keys, tmp_path, mode):
    path = tmp_path / "open_key"
    shutil.copy(keys.path("user"), path)
    path.chmod(mode)
    one_sentence(run(*serve_words, "--key", path), path)
    one_sentence(run("connect", "--server", "127.0.0.1:9", "--identity", path), path)


@pytest.mark.parametrize("kind", ["fifo", "directory", "big", "link", "socket", "empty", "truncated", "binary"])
def test_t46_key_files_that_are_none(serve_words, keys, tmp_path, kind):
    """No pipe is waited for, no link followed, nothing without end read."""
    path = tmp_path / "odd"
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "directory":
        path.mkdir(0o700)
    elif kind == "big":
        path.write_bytes(b"a" * (2 << 20))
    elif kind == "link":
        path.symlink_to(keys.path("host"))
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        path.write_bytes(open(keys.path("host"), "rb").read()[:200])
    else:
        path.write_bytes(bytes(range(256)) * 10)
    if not path.is_symlink() and path.is_file():
        path.chmod(0o600)
    one_sentence(run(*serve_words, "--key", path), path)


def test_t46_key_of_another_owner(serve_words, keys, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / "foreign"
    shutil.copy(keys.path("host"), path)
    path.chmod(0o600)
    os.chown(path, 65534, 65534)
    one_sentence(run(*serve_words, "--key", path), path)


def test_t45_log_goes_on_when_nobody_reads_it(keys, tmp_path):
    """A stderr that is full does not stop the program."""
    words = [procs.alknet(), "serve", "--key", keys.path("host"), "--authorized-keys", str(keys.authorized), "--listen", "127.0.0.1:0"]
    words += ["--admin-socket", str(tmp_path / "a.sock"), "--max-startups", "1000:30:1000", "--max-handshakes", "0"]
    popen = subprocess.Popen(words, stderr=subprocess.PIPE, env=procs.environment())
    try:
        line = b""
        while b"listening" not in line:
            line = popen.stderr.readline()
            assert line, "it ended"
        port = int(line.split(b"address=")[1].split()[0].strip(b'"').rsplit(b":", 1)[1])
        for _ in range(1500):
            with socket.create_connection(("127.0.0.1", port), 30):
                pass

        def served():
            try:
                with socket.create_connection(("127.0.0.1", port), scaled(5)) as sock:
                    return sock.recv(4) == b"SSH-"
            except OSError:
                return False

        wait_until(served, 20, "a connection to be served")

        def dropped():
            with procs.AdminClient(tmp_path / "a.sock") as admin:
                answer = admin.call("metrics")
            text = answer if isinstance(answer, str) else answer["text"]
            return float(re.search(r"^alknet_log_dropped_total(?:\{.*\})? (\S+)$", text, re.M)[1]) > 0

        wait_until(dropped, 10, "lines to be counted as dropped")
    finally:
        popen.terminate()
        popen.stderr.close()
        assert popen.wait(patient(10)) == 0


def test_t49_an_old_libssh_is_refused(keys, tmp_path):
    """The library that runs counts, not the one that alknet was built with."""
    old = procs.environment(**compiler.preloaded("oldssh", tmp_path))
    serve = ["serve", "--key", keys.path("host"), "--authorized-keys", keys.authorized, "--listen", "127.0.0.1:0", "--admin-socket", "none"]
    connect = ["connect", "--server", "127.0.0.1:1", "--identity", keys.path("user")]
    for words in (serve, connect):
        out = subprocess.run(
            [procs.alknet(), *map(str, words)], capture_output=True, text=True, timeout=scaled(20), env=old, check=False
        )
        assert out.returncode == 2, out
        assert out.stderr.splitlines() == ["alknet: libssh 0.9.8/openssl is too old: 0.10.6 or newer is needed"], out.stderr
