# SPDX-License-Identifier: MIT OR Apache-2.0
"""The wall clock jumps (T44) while bytes flow, at both ends."""

from harness import procs
from harness.load import Load
from harness.waiting import wait_until


def test_t44_clock_jumps_under_load(server, client, targets, clocks, chance, size):
    """By up to ten years, to and fro: no session ends, no stream is cut, no deadline comes early, logins go on, and the uptime
    does not jump with it."""
    env = procs.environment(**clocks.environment)
    serving = server("--keepalive", "5", workers=1, env=env)
    connecting = client(serving, "--keepalive", "5", env=env)
    load = Load(connecting.port, targets)
    load.go_on()
    for n in range(size(6, 100)):
        clocks.move(wall=chance.randrange(-10 * 365 * 86400, 10 * 365 * 86400))
        load.go_on(2)
        another = client(serving, "--stdio", f"127.0.0.1:{targets.echo}", socks5=None, env=env, wait=False)
        assert another.wait(20) == 0, another.log()
        assert serving.metric("alknet_uptime_seconds") < 3600, f"after {n + 1} jumps"
    assert load.stop() == 0, load.cut
    assert not connecting.lines("the session ended"), connecting.log()
    wait_until(lambda: serving.metric("alknet_sessions") == 1, 20, "the short sessions to be gone")
    assert not serving.lines("level=error"), serving.log()
