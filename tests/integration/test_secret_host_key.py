# SPDX-License-Identifier: MIT OR Apache-2.0
"""The SSH host key comes from the seed: secret.host_key."""

import base64
import os
import shutil
import signal
import subprocess

import pytest

from harness import crypto, procs, sshwire
from harness.configured import Configured
from harness.waiting import wait_until
from test_secret import PASSPHRASE, PHRASE, slip10

pytestmark = pytest.mark.part("secret")

PATH = "m/74'/0'/1'/0'"
REFUSED = 'alknet_links_refused_total{reason="no_host_key"}'


def blob(path=PATH):
    return sshwire.string(b"ssh-ed25519") + sshwire.string(crypto.Ed25519(slip10(path)).public)


def shown(conf, kind="ed25519"):
    """What ssh-keyscan sees, or nothing."""
    got = subprocess.run(
        ["ssh-keyscan", "-T", "5", "-t", kind, "-p", str(conf.port), "127.0.0.1"], capture_output=True, text=True,
        timeout=60).stdout.split()
    return base64.b64decode(got[2]) if got else None


def in_file(path):
    return base64.b64decode(open(f"{path}.pub").read().split()[1])


def unlock(conf, phrase=PHRASE, passphrase=PASSPHRASE):
    conf.call("secret.unlock", mnemonic=phrase, passphrase=passphrase)


def becomes(conf, key):
    wait_until(lambda: shown(conf) == key, 20, "the host key to change")


@pytest.fixture
def start(keys, tmp_path, running_programs):
    if not os.path.exists(os.path.join(procs.plugin_dir(), "secret.so")):
        pytest.skip("built without the secret service")
    made = []

    def begin(**options):
        options.setdefault("secret", {"host_key": PATH})
        made.append(Configured(keys, tmp_path, running_programs, **options))
        return made[-1]

    yield begin
    for conf in made:
        conf.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_without_a_file(start, workers):
    conf = start(key=None, workers=workers)
    assert "no host key yet" in conf.server.log()
    assert shown(conf) is None
    assert float(conf.call("metrics")["text"].split(REFUSED)[1].split()[0]) > 0
    unlock(conf)
    becomes(conf, blob())
    conf.alone()
    assert conf.login().is_alive()
    # What the server is called does not change when the seed goes, nor by a reload.
    conf.call("secret.lock")
    assert shown(conf) == blob()
    conf.reload(max_sessions=7)
    assert shown(conf) == blob()
    conf.call("keys.reload")
    assert shown(conf) == blob()
    listed = {o["option"]: o["value"] for o in conf.call("config.show")["options"]}
    assert f"secret {PATH}" in str(listed["key"])


def test_worker_that_died_has_it(start):
    conf = start(key=None)
    unlock(conf)
    becomes(conf, blob())
    conf.alone()
    worker = conf.status()["workers"][0]["pid"]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: [w for w in conf.status()["workers"] if w["pid"] != worker and w["state"] == "ready"], 20,
               "another worker")
    assert shown(conf) == blob()


def test_beside_files(start, keys, tmp_path):
    ecdsa = tmp_path / "ecdsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", ecdsa], check=True)
    conf = start(key=[keys.path("host"), ecdsa])
    assert shown(conf) == in_file(keys.path("host"))
    session = conf.login()
    unlock(conf)
    becomes(conf, blob())
    assert shown(conf, "ecdsa") == in_file(ecdsa)
    assert session.is_alive()
    # Another path, then none: the file's is back.
    conf.reload(secret={"host_key": "m/74'/0'/1'/1'"})
    becomes(conf, blob("m/74'/0'/1'/1'"))
    conf.reload(secret=None)
    becomes(conf, in_file(keys.path("host")))


def test_bad_paths(start):
    conf = start(key=None)
    for path, why in ("m/74'/0", "level 2 must be hardened"), ("x", "host_key"), ("m/2147483648'", "host_key"):
        with pytest.raises(Exception, match=why):
            conf.reload(secret={"host_key": path})
    assert conf.generation() == 1


def test_nothing_gives_one(start, keys, tmp_path):
    got = subprocess.run(
        [procs.alknet(), "serve", "--authorized-keys", keys.authorized, "--listen", "127.0.0.1:0"],
        capture_output=True, text=True, env=procs.environment(), timeout=30)
    assert got.returncode == 2
    assert "serve needs a host key" in got.stderr


def test_restored_from_a_backup(start, tmp_path, running_programs):
    """As docs/OPERATIONS.md says it: the files are put back with their modes, `check`, start, `secret unlock`; clients know the server again."""
    conf = start(key=None)
    unlock(conf)
    becomes(conf, blob())
    backup = tmp_path / "backup"
    backup.mkdir()
    kept = [conf.conf, conf.authorized]
    for file in kept:
        shutil.copy2(file, backup)
    conf.close()
    assert conf.server.stop() == 0
    for file in kept:
        file.unlink()
    for file in kept:
        shutil.copy2(backup / file.name, file)
    checked = subprocess.run([procs.alknet(), "check", "-c", conf.conf], capture_output=True, text=True, env=procs.environment(), timeout=60)
    assert checked.returncode == 0, checked.stderr
    conf.server = procs.Server([procs.alknet(), "serve", "-c", conf.conf], tmp_path / "restored.log")
    conf.server.admin = tmp_path / "admin.sock"
    running_programs.append(conf.server)
    conf.server.find_port()
    conf.port = conf.server.port
    assert shown(conf) is None
    typed = subprocess.run(
        [procs.alknet_admin(), "--socket", conf.server.admin, "secret", "unlock", "--stdin"], input=f"{PHRASE}\n{PASSPHRASE}\n", text=True,
        capture_output=True, env=procs.environment(), timeout=60)
    assert (typed.returncode, typed.stdout) == (0, "unlocked\n"), typed.stderr
    becomes(conf, blob())
    assert conf.login().is_alive()
