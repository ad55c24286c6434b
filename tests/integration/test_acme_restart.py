# SPDX-License-Identifier: MIT OR Apache-2.0
"""A server that is started again and again asks its CA no more often than one that stays (threat 69)."""

import json
import os
import stat
import threading
from time import time

import pytest

from harness import procs
from harness.acme_middle import problem
from harness.waiting import wait_until
from test_acme import NAME, Spoil, acme_server, flags_for, middle, pebble, put, served, wait_issued  # noqa: F401

pytestmark = pytest.mark.part("acme")

ORDER = "/order-plz"
REFUSED = problem(403, "rejectedIdentifier", "no such name")


def helper_of(serving):
    """What it said first, or after that."""
    wait_until(lambda: serving.call("acme.status")["helper"], what="the helper's word")
    return serving.call("acme.status")["helper"]


def wait_failure(serving):
    wait_until(lambda: serving.metric("alknet_acme_failures") > 0, 60, "a failure")
    return serving.call("acme.status")["helper"]


@pytest.mark.parametrize(
    "answer,least,most,restarts",
    [(REFUSED, 30, 61, 1), (problem(429, "rateLimited", "too many", **{"Retry-After": "50000"}), 49_000, 50_001, 3)], ids=["refused", "later"])
def test_t69_restarts_wait(middle, acme_server, tmp_path, answer, least, most, restarts):  # noqa: F811
    """With the failures so far, and it is said until when. Who asks for a certificate gets one; then nothing is waited for."""
    middle.rule = Spoil.answer(ORDER, answer)
    kept = tmp_path / "acme" / "backoff.json"
    serving = acme_server(middle)
    before = wait_failure(serving)
    assert least < before["next"] - time() < most
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    middle.rule = None
    for _ in range(restarts):
        serving.finish()
        serving = acme_server(middle)
        after = helper_of(serving)
        assert abs(after["next"] - before["next"]) <= 2
        assert (after["failures"], after["failed"], after["last_error"]) == (1, 0, before["last_error"])
        serving.wait_log(r'level=warn .*notice="the CA is not asked before 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ, .*answers \d+ ')
        assert serving.metric("alknet_acme_failures") == 1
    assert len(middle.asked_for(ORDER)) == 1
    assert serving.call("acme.renew", 60) == {"renewed": True}
    assert not kept.exists()
    shown = served(serving.port)
    serving.finish()
    serving = acme_server(middle)
    assert helper_of(serving)["failures"] == 0 and served(serving.port) == shown
    serving.finish()
    assert "is not asked before" not in serving.log() and len(middle.asked_for(ORDER)) == 2


def test_t69_a_renewal_that_failed_is_tried_again(middle, acme_server):  # noqa: F811
    """Also where the certificate before is good for long, as by the server that failed: the CA may want it replaced."""
    serving = acme_server(middle)
    wait_issued(serving)
    middle.rule = Spoil.answer(ORDER, REFUSED)
    with pytest.raises(procs.AdminError, match="no such name"):
        serving.call("acme.renew", 60)
    serving.finish()
    helper = helper_of(acme_server(middle))
    assert helper["failures"] == 1 and helper["next"] - time() < 61


def test_t69_failures_add_up_over_restarts(middle, acme_server):  # noqa: F811
    middle.rule = Spoil.answer(ORDER, REFUSED)
    for failures in (1, 2, 3):
        serving = acme_server(middle)
        if failures == 1:
            wait_failure(serving)
        else:
            with pytest.raises(procs.AdminError, match="no such name"):
                serving.call("acme.renew", 60)
        helper = serving.call("acme.status")["helper"]
        longest = 60 * 2 ** (failures - 1)
        assert helper["failures"] == failures and longest / 2 < helper["next"] - time() <= longest + 1
        serving.finish()
    assert len(middle.asked_for(ORDER)) == 3


def test_t69_server_dies_in_an_attempt(middle, acme_server):  # noqa: F811
    """That has failed, whatever the CA made of it."""
    go_on = threading.Event()

    def hold(request):
        if ORDER in request.path:
            go_on.wait(60)

    middle.rule = hold
    serving = acme_server(middle)
    wait_until(lambda: middle.asked_for(ORDER), 60, "an order")
    serving.expected_status = None
    serving.kill()
    go_on.set()
    again = acme_server(middle)
    helper = helper_of(again)
    assert helper["failures"] == 1 and "ended while it asked" in helper["last_error"]
    assert helper["state"] == "waiting" and helper["next"] - time() < 61
    again.wait_log('notice="the CA is not asked before .*ended while it asked')
    assert len(middle.asked_for(ORDER)) == 1


def test_t69_other_options_are_tried_at_once(middle, pebble, acme_server):  # noqa: F811
    """Other names, another CA, another proof."""
    middle.rule = Spoil.answer(ORDER, REFUSED)
    serving = acme_server(middle)
    for names, more in (((NAME, "second.example"), {}), ((NAME,), {"challenge": "http-01"})):
        wait_failure(serving)
        serving.finish()
        asked = len(middle.asked_for(ORDER))
        serving = acme_server(middle, *names, **more)
        wait_until(lambda: len(middle.asked_for(ORDER)) == asked + 1, what="the CA to be asked")
        assert "is not asked before" not in serving.log()
    wait_failure(serving)
    serving.finish()
    wait_issued(acme_server(pebble()))


@pytest.mark.parametrize("damage", ["text", "mode"])
def test_t69_file_is_damaged(middle, acme_server, tmp_path, damage):  # noqa: F811
    """It is as if it were not there, and that is said."""
    middle.rule = Spoil.answer(ORDER, REFUSED)
    serving = acme_server(middle)
    wait_failure(serving)
    serving.finish()
    kept = tmp_path / "acme" / "backoff.json"
    if damage == "mode":
        kept.chmod(0o644)
    else:
        put(kept, json.dumps({**json.loads(kept.read_text()), "next": "never"}))
    middle.rule = None
    serving = acme_server(middle)
    wait_issued(serving)
    assert len(serving.lines("level=warn", "notice=", "backoff.json cannot be used")) == 1
    assert not kept.exists()


def test_t69_clock_was_set_back(middle, acme_server, tmp_path):  # noqa: F811
    """Or it was wrong when the CA was asked: the wait is no longer than it was to be."""
    middle.rule = Spoil.answer(ORDER, REFUSED)
    serving = acme_server(middle)
    wait_failure(serving)
    serving.finish()
    kept = tmp_path / "acme" / "backoff.json"
    written = json.loads(kept.read_text())
    years = 20 * 365 * 86400
    put(kept, json.dumps({**written, "asked": written["asked"] + years, "next": written["next"] + years}))
    helper = helper_of(acme_server(middle))
    assert helper["failures"] == 1 and 30 < helper["next"] - time() < 61
    assert json.loads(kept.read_text())["next"] - time() < 61
