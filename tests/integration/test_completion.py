# SPDX-License-Identifier: MIT OR Apache-2.0
"""The completion scripts in the shells that read them."""

import shutil
import subprocess

import pytest

from harness import procs
from harness.waiting import patient, scaled


def script(tmp_path, program, shell):
    path = tmp_path / f"{program.rsplit('/', 1)[-1]}.{shell}"
    out = subprocess.run([program, "completion", shell], capture_output=True, text=True, timeout=scaled(20), env=procs.environment(), check=False)
    assert out.returncode == 0 and out.stderr == "", out
    path.write_text(out.stdout)
    return path


def shell(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine")
    return path


def bash_complete(path, words, cwd):
    """What bash offers for the last of `words`."""
    quoted = " ".join(f"'{word}'" for word in words)
    function = "_" + words[0].replace("-", "_")
    code = f"source {path}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; compopt() {{ :; }}; {function}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    out = subprocess.run(["/bin/bash", "--norc", "-c", code], capture_output=True, text=True, timeout=scaled(20), cwd=cwd, check=False)
    assert out.returncode == 0 and out.stderr == "", out
    return out.stdout.split()


@pytest.mark.parametrize("words, offers, not_offers", [
    (["alknet", ""], {"serve", "connect", "check", "policy", "--help"}, {"worker", "--key"}),
    (["alknet", "ser"], {"serve"}, {"connect"}),
    (["alknet", "serve", "--max-"], {"--max-connections-per-ip", "--max-sessions", "--max-startups"}, {"--key"}),
    (["alknet", "serve", "--ide"], set(), {"--identity"}),
    (["alknet", "connect", "--ide"], {"--identity"}, set()),
    (["alknet", "connect", "--no-acc"], {"--no-accept-new-host-key"}, set()),
    (["alknet", "serve", "--log-level", ""], {"error", "warn", "info", "debug"}, {"--key"}),
    (["alknet", "serve", "--key", "host"], {"host_key"}, {"--key"}),
    (["alknet", "serve", "--listen", ""], set(), {"--key", "host_key"}),
    (["alknet", "check", "--ident"], {"--identity"}, set()),
    (["alknet", "completion", ""], {"bash", "zsh", "fish"}, set()),
    (["alknet", "check", "--con"], {"--connect", "--config"}, set()),
    (["alknet", "check", "--dump"], {"--dump-defaults"}, set()),
    (["alknet", "secret", ""], {"new"}, {"--key"}),
    (["alknet", "--v"], {"--version"}, set()),
    (["alknet", "serve", "--v"], set(), {"--version"}),
    (["alknet", "policy", "eval", "--question", ""], {"on_link", "on_auth", "on_open", "on_listen"}, {"eval"}),
    (["alknet", "policy", "eval", "--"], {"--question", "--config", "--user", "--json", "--help"}, {"test"}),
    (["alknet", "policy", "test", "--"], {"--json", "--help"}, {"--question", "--config", "--user", "--policy", "--key"}),
    (["alknet", "policy", "test", "--question", ""], set(), {"on_auth"}),
    (["alknet", "policy", "--"], {"--json", "--help"}, {"--question", "--config"}),
    (["alknet-admin", "secret.derive", "--p"], {"--path", "--private"}, set()),
    (["alknet-admin", "secret.derive", "--type", ""], {"ed25519", "password"}, {"--path"}),
    (["alknet-admin", "secret.unlock", "--s"], {"--stdin", "--socket"}, {"--private"}),
    (["alknet-admin", "upgrade", "--f"], {"--force"}, set()),
    (["alknet-admin", "status", "--p"], set(), {"--private", "--path"}),
    (["alknet-admin", "session."], {"session.list", "session.show", "session.kill"}, {"status"}),
    (["alknet-admin", "log.level", ""], {"error", "debug"}, {"status"}),
    (["alknet-admin", "help", "sess"], {"session.list"}, set()),
    (["alknet-admin", "status", "--"], {"--json", "--socket"}, set()),
    (["alknet-admin", "status", "--socket", "host"], {"host_key"}, set()),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bash(tmp_path, words, offers, not_offers):
    (tmp_path / "host_key").write_text("")
    program = procs.alknet() if words[0] == "alknet" else procs.alknet_admin()
    got = set(bash_complete(script(tmp_path, program, "bash"), words, tmp_path))
    assert offers <= got, got
    assert not got & not_offers, got


@pytest.mark.parametrize("line, offers, not_offers", [
    ("alknet ser", {"serve"}, {"connect"}), ("alknet serve --max-sess", {"--max-sessions"}, set()), ("alknet serve --log-level ", {"debug"}, set()),
    ("alknet connect --ident", {"--identity"}, set()), ("alknet --v", {"--version"}, set()), ("alknet check --dump", {"--dump-defaults"}, set()),
    ("alknet policy eval --question ", {"on_auth"}, set()), ("alknet policy eval --", {"--question", "--user", "--json", "--help"}, set()),
    ("alknet policy test --", {"--json", "--help"}, {"--question", "--user", "--config", "--policy"}),
])
def test_fish(tmp_path, line, offers, not_offers):
    path = script(tmp_path, procs.alknet(), "fish")
    out = subprocess.run(
        [shell("fish"), "--no-config", "-c", f"source {path}; complete -C '{line}'"], capture_output=True, text=True, timeout=scaled(20), check=False
    )
    got = {row.split("\t")[0] for row in out.stdout.splitlines()}
    assert offers <= got and not got & not_offers, out


@pytest.mark.parametrize("line, offers, not_offers", [
    ("alknet serve --max-", "--max-sessions", "--key"), ("alknet-admin session.", "session.kill", "status"),
    ("alknet policy eval --", "--question", "--max-sessions"), ("alknet policy test --", "--json", "--question"),
])
def test_zsh(tmp_path, line, offers, not_offers):
    """zsh loads the function and its _arguments specifications are right: it offers the flags in a real line editor.

    The list has ended when the line stands below it once more."""
    zsh = shell("zsh")
    name = line.split()[0]
    path = script(tmp_path, procs.alknet() if name == "alknet" else procs.alknet_admin(), "zsh")
    (tmp_path / f"_{name}").write_text(path.read_text())
    code = (
        "zmodload zsh/zpty; zpty z zsh -f -i; zpty -w z \"PS1=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -D -u; "
        "zstyle ':completion:*' list-packed no; unsetopt always_last_prompt; LISTMAX=0; COLUMNS=200; print READY\"\n"
        "zpty -r z out '*READY*READY*'; zpty -w -n z \"$2\"$'\\t\\t'; zpty -r -m z out \"*$3*$2*\" && print -r - \"FOUND $out\"; zpty -d z"
    )
    env = {**procs.environment(), "TERM": "dumb", "LINES": "50"}  # which has no other way to show the line again than to write it
    run = [zsh, "-f", "-c", code, "zsh", str(tmp_path), line, offers]
    out = subprocess.run(run, capture_output=True, text=True, timeout=patient(30), check=False, env=env)
    assert "FOUND" in out.stdout and not_offers not in out.stdout, out


@pytest.mark.parametrize("words", [["completion"], ["completion", "tcsh"]])
@pytest.mark.parametrize("program", ["alknet", "alknet_admin"])
def test_no_such_shell(program, words):
    out = subprocess.run([getattr(procs, program)(), *words], capture_output=True, text=True, timeout=scaled(20), env=procs.environment(), check=False)
    assert out.returncode == 2 and "bash, zsh or fish" in out.stderr and out.stdout == ""
