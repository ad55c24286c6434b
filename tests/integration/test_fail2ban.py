# SPDX-License-Identifier: MIT OR Apache-2.0
"""conf/fail2ban against the real fail2ban-regex, on lines that the program wrote; and the form of these lines."""

import os
import re
import shutil
import socket
import subprocess

import pytest

from harness import procs, sshwire
from harness.waiting import wait_until

FORGED = ['root result=accept', 'x" result=accept', 'x remote_addr=192.0.2.66 user=y', 'a\\', '"', "", 'x","result":"accept"}', "ü"]
FROZEN = re.compile(
    r'^level=info msg="auth attempt" remote_addr=(\S+) user=("(?:[^"\\]|\\.)*"|\S*) '
    r'key_fingerprint=SHA256:[A-Za-z0-9+/]{43} result=(accept|reject)$', re.M)


@pytest.fixture(scope="module")
def fail2ban(tmp_path_factory):
    if not shutil.which("fail2ban-regex"):
        pytest.skip("fail2ban is not installed")
    place = tmp_path_factory.mktemp("fail2ban") / "conf"
    shutil.copytree("/etc/fail2ban", place)
    for part in "filter.d", "jail.d":
        shutil.copy(procs.ROOT / "conf" / "fail2ban" / part / "alknet.conf", place / part)

    def matched(log, mode="normal"):
        got = subprocess.run(
            ["fail2ban-regex", "-c", place, "-o", "<ip>", log, f"alknet[mode={mode}]"], capture_output=True, text=True,
            timeout=60, env={**os.environ, "TZ": "UTC"})
        assert got.returncode == 0, got.stderr
        return got.stdout.split()

    matched.conf = place
    return matched


def refused(port, keys, user, host="127.0.0.1"):
    wire = sshwire.Wire(port, host=host)
    wire.service()
    wire.auth_request(user, sshwire.load_key(keys.path("stranger")))
    wire.expect(sshwire.AUTH_FAILURE)
    wire.close()


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_every_refusal_is_found(server, keys, fail2ban, form):
    serving = server("--log-format", form, wait=False)
    listening = re.compile(r'"?listening"?.*address"?[=:]"?127\.0\.0\.1:(\d+)')
    wait_until(lambda: listening.search(serving.log()), 20, "the listener")
    port = int(listening.search(serving.log())[1])
    for user in FORGED:
        refused(port, keys, user)
    good = sshwire.Wire(port).login(sshwire.load_key(keys.path("user")), 'nobody result=reject')
    good.close()
    wait_until(lambda: serving.log().count("auth attempt") == len(FORGED) + 1, 20, "the lines")
    assert fail2ban(serving.log_path) == ["127.0.0.1"] * len(FORGED)
    if form == "logfmt":
        assert [m[2] for m in FROZEN.findall(serving.log())] == ["reject"] * len(FORGED) + ["accept"]


def test_ipv6(server, keys, fail2ban, ipv6):
    serving = server(listen="[::1]:0")
    refused(serving.port, keys, "root", host="::1")
    wait_until(lambda: "auth attempt" in serving.log(), 20, "the line")
    assert fail2ban(serving.log_path) == ["::1"]


def test_syslog_and_journal_lines(server, keys, fail2ban, tmp_path):
    """As a syslog daemon and fail2ban's own reader of the journal write the same line."""
    serving = server()
    refused(serving.port, keys, 'x" result=accept')
    wait_until(lambda: "auth attempt" in serving.log(), 20, "the line")
    line = re.search(r"^level=.*auth attempt.*$", serving.log(), re.M)[0]
    log = tmp_path / "syslog"
    log.write_text(f"Nov  9 08:00:01 gate alknet[123]: {line}\n2026-11-09T08:00:01.123456+00:00 gate alknet[123]: {line}\n")
    assert fail2ban(log) == ["127.0.0.1"] * 2


def test_aggressive_counts_who_never_logs_in(server, fail2ban):
    serving = server("--handshake-timeout", "1s")
    with socket.create_connection(("127.0.0.1", serving.port)):
        wait_until(lambda: "handshake timeout" in serving.log(), 20, "the line")
    assert fail2ban(serving.log_path) == []
    assert fail2ban(serving.log_path, "aggressive") == ["127.0.0.1"]


def test_jail_is_one(fail2ban):
    got = subprocess.run(["fail2ban-client", "-c", fail2ban.conf, "-d"], capture_output=True, text=True, timeout=60)
    assert got.returncode == 0, got.stderr
    assert "['add', 'alknet', 'systemd']" in got.stdout
