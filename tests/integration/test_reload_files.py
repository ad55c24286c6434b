# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reload: what is read. Bad files change nothing and are named (THREATS 70); good ones apply, and to whom."""

import re
import shutil
import signal
import subprocess

import pytest

from harness import net, procs, sshwire
from harness.configured import echoes, lives
from harness.waiting import wait_until


def spoil_conf(s):
    s.conf.write_text('return {\n  key = "host",\n  = 7,\n}\n')


def spoil_conf_key(s):
    s.write(max_sesions=3)


def spoil_conf_value(s):
    s.write(max_sessions="many")


def spoil_conf_startups(s):
    s.write(max_startups="10:300:1")


def spoil_policy(s):
    s.policy.write_text("return {\n  on_open = function(\n}\n")


def spoil_policy_run(s):
    s.policy.write_text("local x = nil\nreturn { a = x.y }\n")


def spoil_policy_word(s):
    s.policy.write_text("return {\n  on_opne = function() return 'forward' end\n}\n")


def spoil_authorized(s):
    s.authorized.write_text("# nobody\nssh-ed25519 not+base64!\n")


def spoil_host(s):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(s.host)], check=True)


def spoil_host_short(s):
    s.host.write_bytes(s.host.read_bytes()[:100])


def spoil_host_mode(s):
    s.host.chmod(0o644)


def spoil_missing(s):
    s.authorized.unlink()


def spoil_plugin(s):
    s.write(forward={"connect_timeout": "soon"})


def spoil_listen(s):
    s.write(listen=["127.0.0.1:99999"])


def spoil_transport(s):
    s.write(listen=[{"transport": "carrier_pigeon", "address": "127.0.0.1:0"}])


def spoil_services(s):
    """A restart is needed to have them, and would fail."""
    s.write(services=["nosuch"])


def spoil_secret(s):
    s.write(secret={"host_key": "m/1"})


BAD = [
    (spoil_services, r"services: .*nosuch"),
    (spoil_secret, r"host_key: level 1 must be hardened"),
    (spoil_conf, r"alknet\.conf:3"),
    (spoil_conf_key, r"alknet\.conf:\d+: max_sesions.*max_sessions"),
    (spoil_conf_value, r"alknet\.conf:\d+: max_sessions"),
    (spoil_conf_startups, r"alknet\.conf:\d+: max_startups"),
    (spoil_policy, r"policy\.lua:\d"),
    (spoil_policy_run, r"policy\.lua:2"),
    (spoil_policy_word, r"policy\.lua.*on_opne"),
    (spoil_authorized, r"authorized_keys:2"),
    (spoil_host, r"/host.*(PEM|ssh-keygen -p)"),
    (spoil_host_short, r"/host"),
    (spoil_host_mode, r"/host"),
    (spoil_missing, r"authorized_keys.*No such file"),
    (spoil_plugin, r"alknet\.conf:\d+: forward\.connect_timeout"),
    (spoil_listen, r"99999"),
    (spoil_transport, r"carrier_pigeon"),
]


@pytest.mark.parametrize("count", [0, 1], ids=lambda n: f"workers{n}")
@pytest.mark.parametrize(("spoil", "named"), BAD, ids=lambda v: getattr(v, "__name__", "")[6:])
def test_t70_bad_file_changes_nothing(configured, targets, spoil, named, count):
    serving = configured(workers=count, policy="return {}")
    wire = serving.login()
    before = serving.status()
    spoil(serving)
    for method in ("config.check", "reload"):
        with pytest.raises(procs.AdminError) as why:
            serving.call(method)
        assert re.search(named, str(why.value)), why.value
    wait_until(lambda: len(serving.status()["workers"]) == 1, 10, "the new worker to be gone")
    after = serving.status()
    same = ("generation", "limits", "restart_needed", "worker_restarts")
    assert {k: after[k] for k in same} == {k: before[k] for k in same}
    assert [(w["pid"], w["state"]) for w in after["workers"]] == [(w["pid"], w["state"]) for w in before["workers"]]
    assert serving.server.lines("level=error", "reload failed, nothing changed")
    assert re.search(named, serving.server.lines("reload failed, nothing changed")[-1])
    assert serving.server.metric("alknet_reload_failures_total") == 1
    echoes(wire, targets)
    echoes(serving.login(), targets)


def test_t70_bad_file_and_a_signal(configured):
    serving = configured()
    spoil_conf(serving)
    serving.server.signal(signal.SIGHUP)
    serving.server.wait_log(r"reload failed, nothing changed.*alknet\.conf:3")
    assert serving.generation() == 1
    serving.write()
    serving.server.signal(signal.SIGHUP)
    wait_until(lambda: serving.generation() == 2, 10, "the good file")


def test_config_check_applies_nothing(configured, workers):
    serving = configured(workers=workers, policy="return {}")
    pids = serving.server.workers()
    serving.write(max_sessions=7, admin_socket=serving.dir / "other.sock")
    assert serving.call("config.check") == {"ok": True, "restart_needed": [{"option": "admin_socket"}]}
    status = serving.status()
    assert status["generation"] == 1 and status["limits"]["max_sessions"] == 0 and status["restart_needed"] == []
    wait_until(lambda: serving.server.workers() == pids, 10, "the worker that tried to be gone")


def test_keys_change(configured, targets, workers, tmp_path):
    """A new key works; a key that was taken away does not, but its session lives."""
    serving = configured(workers=workers)
    old = serving.login("user")
    with pytest.raises((PermissionError, sshwire.Closed)):
        serving.login("stranger")
    serving.authorized.write_text(serving.keys.public("stranger") + "\n")
    serving.write(max_sessions=1)  # not to be read
    assert serving.call("keys.reload")["generation"] == 2
    echoes(serving.login("stranger"), targets)
    with pytest.raises((PermissionError, sshwire.Closed)):
        serving.login("user")
    echoes(old, targets)
    assert serving.status()["limits"]["max_sessions"] == 0


def test_host_key_changes(configured, workers):
    serving = configured(workers=workers)
    old = serving.login()
    serving.host.unlink()
    procs.make_key(serving.host)
    serving.call("keys.reload")
    new = serving.login()
    assert new.host_key != old.host_key and lives(old)


DENY = "return { on_open = function() return 'deny', 'closed' end }"


def test_policy_changes(configured, targets, workers):
    """For sessions that begin; those that are there keep the policy they began with."""
    serving = configured(workers=workers, policy="return {}")
    old = serving.login()
    serving.policy.write_text(DENY)
    serving.authorized.unlink()  # not to be read
    serving.call("policy.reload")
    new = serving.login()
    assert new.open_channel(1, "127.0.0.1", targets.echo) is None
    echoes(old, targets)


def test_policy_reload_without_a_policy(configured):
    serving = configured()
    with pytest.raises(procs.AdminError, match="there is no policy"):
        serving.call("policy.reload")


def test_what_was_read_alone_stays(configured, targets):
    """A worker that is replaced has what was reloaded, not what stood there at the start."""
    serving = configured(workers=1, policy="return {}")
    serving.policy.write_text(DENY)
    serving.call("policy.reload")
    serving.alone()
    pid = serving.server.workers()[0]
    serving.policy.write_text("return {}")
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    wait_until(lambda: [p for p in serving.server.workers() if p != pid], 20, "the next worker")
    wait_until(lambda: serving.status()["workers"][0]["state"] == "ready", 20, "it to be ready")
    assert serving.login().open_channel(1, "127.0.0.1", targets.echo) is None


def test_flags_count_more_than_the_file(configured):
    serving = configured(flags=("--max-sessions", "5"))
    serving.reload(max_sessions=9, max_connections_per_ip=8)
    limits = serving.status()["limits"]
    assert (limits["max_sessions"], limits["max_connections_per_ip"]) == (5, 8)


def test_what_the_supervisor_keeps(configured, workers):
    """Limits, timeouts and the log's level apply at once."""
    serving = configured(workers=workers, max_connections_per_ip=1)
    wire = serving.login()
    with pytest.raises((OSError, EOFError, sshwire.Closed)):
        serving.login()
    serving.reload(max_connections_per_ip=2, max_startups="3:50:9", log_level="debug")
    assert serving.status()["limits"] == {"max_connections_per_ip": 2, "max_startups": "3:50:9", "max_sessions": 0}
    assert serving.call("log.level") == {"level": "debug"}
    assert lives(serving.login()) and lives(wire)
    with pytest.raises((OSError, EOFError, sshwire.Closed)):
        serving.login()


def test_more_and_fewer_workers(configured):
    serving = configured(workers=1)
    wire = serving.login()
    assert serving.reload(workers=3)["workers"] == 3
    serving.login()
    assert serving.reload(workers=1)["workers"] == 1
    assert lives(wire)


def test_what_needs_a_restart_is_said(configured, workers):
    serving = configured(workers=workers)
    other = 1 if workers == 0 else 0
    result = serving.reload(admin_socket=serving.dir / "other.sock", workers=other, max_sessions=9)
    names = {one["option"] for one in result["restart_needed"]}
    assert names == {"admin_socket", "workers"}
    status = serving.status()
    assert {one["option"] for one in status["restart_needed"]} == names
    assert status["limits"]["max_sessions"] == 9, "the rest applies"
    assert status["in_process"] == (workers == 0)
    assert len(serving.server.lines("a changed option needs a restart")) == 2
    assert not (serving.dir / "other.sock").exists()
    result = serving.reload(admin_socket=serving.dir / "admin.sock", workers=workers)
    assert result["restart_needed"] == [] and serving.status()["restart_needed"] == []


def test_plugin_dir_changes(configured, targets, tmp_path):
    plugins = tmp_path / "plugins"
    plugins.mkdir(mode=0o755)
    for name in ("tcp.so", "forward.so"):
        shutil.copy(f"{procs.plugin_dir()}/{name}", plugins / name)
        (plugins / name).chmod(0o755)
    serving = configured(env=procs.environment(ALKNET_PLUGIN_DIR=None), plugin_dir=procs.plugin_dir())
    wire = serving.login()
    for where in (plugins, procs.plugin_dir()):
        assert serving.reload(plugin_dir=where, tcp={"backlog": 77})["restart_needed"] in ([], [{"option": "tcp"}])
        echoes(serving.login(), targets)
    shutil.rmtree(plugins)
    assert serving.reload()["restart_needed"] == []
    assert lives(wire)
    with net.connect(serving.port) as sock:
        assert sock.recv(4) == b"SSH-"
