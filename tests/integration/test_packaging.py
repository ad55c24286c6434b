# SPDX-License-Identifier: MIT OR Apache-2.0
"""What packaging/ makes of an installation: the root of a container, and a directory that may lie anywhere."""

import os
import re
import shutil
import subprocess

import pytest

from harness import procs
from harness.waiting import scaled, wait_until

# `make install` links the plugins anew where they lie, and for a moment there are none.
pytestmark = pytest.mark.alone
PACKAGING = procs.ROOT / "packaging"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`make install` of the build that is tested."""
    build = os.environ.get("ALKNET_BUILDDIR")
    if not build or procs.is_sanitized():
        pytest.skip("needs a build directory, without sanitizers")
    place = tmp_path_factory.mktemp("installed")
    subprocess.run(["make", "-s", "-C", build, "install", f"DESTDIR={place}"], check=True,
                   capture_output=True, timeout=scaled(240))
    return place


def serves(argv, directory, keys, targets, running_programs, env=None):
    """It listens, and stock ssh comes in through it."""
    server = procs.Program(
        [*argv, "serve", "--key", "/etc/alknet/host" if argv[0] == "unshare" else keys.path("host"), "--authorized-keys",
         "/etc/alknet/keys" if argv[0] == "unshare" else keys.authorized, "--listen", "127.0.0.1:0", "--admin-socket",
         "none"], directory / "serve.log", env=env)
    running_programs.append(server)
    listening = re.compile(r'msg="?listening"? .*address=127\.0\.0\.1:(\d+)')
    wait_until(lambda: listening.search(server.log()), 30, "the server to listen")
    port = listening.search(server.log())[1]
    got = subprocess.run(
        ["ssh", "-F", "none", "-i", keys.path("user"), "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={directory / 'k'}",
         "-o", "LogLevel=ERROR", "-p", port, "-W", f"127.0.0.1:{targets.echo}", "root@127.0.0.1"], input=b"through\n",
        capture_output=True, timeout=scaled(30))
    assert got.stdout == b"through\n", (got, server.log())


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_root_of_a_container(installed, tmp_path, keys, targets, running_programs):
    root = tmp_path / "root"
    subprocess.run([PACKAGING / "root", installed, root], check=True, capture_output=True, timeout=scaled(60))
    assert not list(root.glob("**/sh")) and not list(root.glob("**/*.h"))
    for name, source in ("host", keys.path("host")), ("keys", keys.authorized):
        shutil.copy(source, root / "etc" / "alknet" / name)
        os.chown(root / "etc" / "alknet" / name, 65532, 65532)
        (root / "etc" / "alknet" / name).chmod(0o600)
    program = "/" + str(next(root.glob("**/bin/alknet")).relative_to(root))
    # What an engine gives to every container: /proc and /dev.
    (root / "proc").mkdir()
    (root / "dev").mkdir()
    inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
              'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot --userspec=65532:65532 "$0" "$@"',
              root, program]
    version = subprocess.run([*inside, "--version"], capture_output=True, text=True)
    assert version.stdout.startswith("alknet "), version
    serves(inside, tmp_path, keys, targets, running_programs, env={"LC_ALL": "C", "PATH": os.environ["PATH"]})


def test_tarball(installed, tmp_path, keys, targets, running_programs):
    if not shutil.which("patchelf"):
        pytest.skip("patchelf is not installed")
    subprocess.run([PACKAGING / "tarball", installed, tmp_path / "alknet-x.tar.xz"], check=True, capture_output=True,
                   timeout=scaled(120))
    place = tmp_path / "some where"
    place.mkdir()
    subprocess.run(["tar", "-xJf", tmp_path / "alknet-x.tar.xz", "-C", place], check=True)
    # Only the C library comes from outside.
    for file in [p for p in place.glob("**/*") if p.is_file() and p.read_bytes()[:4] == b"\x7fELF"]:
        found = re.findall(r"=> (/\S.*) \(", subprocess.run(["ldd", file], capture_output=True, text=True).stdout)
        outside = [name for name in found if str(place) not in os.path.realpath(name)]
        assert not [n for n in outside if not re.search(r"/(libc|libm|libdl|librt|libpthread|libresolv)\.so", n)], (file, outside)
    programs = next(place.iterdir()) / "bin"
    assert subprocess.run([programs / "alknet-admin", "help"], capture_output=True, env={}).returncode == 0
    serves([programs / "alknet"], tmp_path, keys, targets, running_programs, env={"LC_ALL": "C", "PATH": os.environ["PATH"]})


def test_pages_lead_somewhere(installed):
    """No link of an installed page is dead, and those that were made text had their reason."""
    links = 0
    pages = [page for page in installed.glob("**/share/doc/alknet/**/*.md")]
    assert {"README.md", "OPERATIONS.md", "SERVICE.md"} <= {page.name for page in pages}
    for page in pages:
        for target in re.findall(r"\]\(([A-Za-z0-9_./-]+)(?:#[^)]*)?\)", page.read_text()):
            where = installed / target.lstrip("/") if target.startswith("/") else page.parent / target
            assert where.exists(), f"{page.name}: {target}"
            links += 1
    assert links > 30
    assert os.access(next(installed.glob("**/examples/bus_client.mjs")), os.X_OK)
    assert list(installed.glob("**/share/alknet/fail2ban/filter.d/alknet.conf"))
    assert list(installed.glob("**/share/alknet/logrotate/alknet"))


def test_what_the_packages_name_is_there():
    """The examples of libalknet-dev are files of the tree, and git's, which the package is built from."""
    for line in (PACKAGING / "debian" / "libalknet-dev.examples").read_text().split():
        found = list(PACKAGING.parent.glob(line))
        assert found and all(path.is_file() or (path / "Makefile").exists() for path in found), line


def test_the_log_is_rotated(tmp_path):
    """What is written on goes to the file that logrotate emptied."""
    if not shutil.which("logrotate"):
        pytest.skip("no logrotate")
    log, conf = tmp_path / "alknet.log", tmp_path / "conf"
    text = (PACKAGING.parent / "conf" / "logrotate" / "alknet").read_text()
    assert "\n/var/log/alknet.log {" in text
    conf.write_text(text.replace("/var/log/alknet.log", f"{log}").replace("{\n", "{\n\tsu root root\n", 1) if os.geteuid() == 0
                    else text.replace("/var/log/alknet.log", f"{log}"))
    conf.chmod(0o644)
    with open(log, "ab", buffering=0) as out:
        out.write(b"before\n")
        subprocess.run(["logrotate", "-f", "-s", tmp_path / "state", conf], check=True, capture_output=True, timeout=scaled(30))
        out.write(b"after\n")
    assert log.read_bytes() == b"after\n" and list(tmp_path.glob("alknet.log.1.gz"))
