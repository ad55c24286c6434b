# SPDX-License-Identifier: MIT OR Apache-2.0
"""Policies that wait: names that change between two looks (THREATS 28), and sessions that end meanwhile."""

import socket
import time

import pytest

from harness import dns, sshwire
from harness.waiting import wait_until

CHECKED = """
return {
  on_open = function(session, destination)
    local addresses, why = alknet.resolve(destination.host)
    if not addresses then
      return "deny", why
    end
    for _, address in ipairs(addresses) do
      if address ~= "127.0.0.1" then
        return "deny", "private"
      end
    end
    return "forward"%s
  end,
}
"""


GIVES_UP = 4  # seconds: then alknet.resolve does


class Patient(dns.NameServer):
    """Who asks again since no answer came has the same id and gets the same answer: it is a thread of ours, which may stall."""

    def __init__(self, directory):
        self.given = {}
        super().__init__(directory)

    def _answer(self, query):
        if query not in self.given:
            self.given[query] = super()._answer(query)
        return self.given[query]


def opening(wire, number, names, name, answers, port):
    """The channel that was opened, and to which name; with another one once more where the answer came too late."""
    for n in range(3):
        asked = f"try{n}.{name}"
        names.answers[asked] = answers
        begun = time.monotonic()
        opened = wire.open_channel(number + n, asked, port)
        if opened or time.monotonic() - begun < GIVES_UP:
            break
    return opened, asked


@pytest.fixture
def names(tmp_path):
    if reason := dns.why_not():
        pytest.skip(reason)
    server = Patient(tmp_path)
    yield server
    server.close()


@pytest.fixture
def login(keys):
    wires = []

    def connect(serving):
        wires.append(sshwire.Wire(serving.port))
        return wires[-1].login(sshwire.load_key(keys.path("user")), "tester")

    yield connect
    for wire in wires:
        wire.close()


class Private:
    """What must not be reached: another address on the port of the echo."""

    def __init__(self, port):
        self.socket = socket.create_server(("127.0.0.2", port))
        self.socket.setblocking(False)

    def accepted(self):
        try:
            self.socket.accept()[0].close()
            return True
        except BlockingIOError:
            return False


@pytest.fixture
def private(targets):
    listening = Private(targets.echo)
    yield listening
    listening.socket.close()


def test_t28_the_address_that_was_judged_is_connected(server, login, targets, names, private):
    wire = login(server(policy=CHECKED % ", { host = addresses[1] }", wrap=names.wrap()))
    opened, name = opening(wire, 1, names, "rebind.example", [["127.0.0.1"], ["127.0.0.2"]], targets.echo)
    assert opened, "the address that was judged is not connected to"
    wire.data(opened[0], b"judged")
    assert wire.read(6) == b"judged"
    assert names.asked.count((name, dns.A)) == 1, "asked again after the check"
    assert not private.accepted()
    assert wire.open_channel(9, name, targets.echo) is None, "by now it is private"
    assert not private.accepted()


def test_t28_a_check_of_the_name_alone_is_not_enough(server, login, targets, names, private):
    """Shows that the test above tests something: a policy that forwards to the name is led astray."""
    wire = login(server(policy=CHECKED % "", wrap=names.wrap()))
    assert opening(wire, 1, names, "rebind.example", [["127.0.0.1"], ["127.0.0.2"]], targets.echo)[0]
    wait_until(private.accepted, 5, "the connection to the other address")


@pytest.mark.parametrize("answer", [["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.1", "::1"], []])
def test_t28_one_private_address_is_enough(server, login, targets, names, private, answer):
    names.answers["try0.mixed.example"] = [answer]
    wire = login(server(policy=CHECKED % ", { host = addresses[1] }", wrap=names.wrap()))
    assert wire.open_channel(1, "try0.mixed.example", targets.echo) is None
    assert not private.accepted()
    assert opening(wire, 2, names, "mixed.example", [["127.0.0.1"]], targets.echo)[0]


def test_t28_others_do_not_wait(server, login, targets, names):
    """A name server that says nothing holds up one question, not the session and not the worker."""
    names.answers["good.example"] = [["127.0.0.1"]]
    for n in range(3):
        names.silent.add(f"silent{n}.example")
        serving = server(policy=CHECKED % ", { host = addresses[1] }", wrap=names.wrap())
        wire, other = login(serving), login(serving)
        begun = time.monotonic()
        wire.open_request(1, f"silent{n}.example", 1)
        wait_until(lambda asked=(f"silent{n}.example", dns.A): asked in names.asked, 20, "the name server to be asked")
        opened = [wire.open_channel(2, "good.example", targets.echo), other.open_channel(1, "good.example", targets.echo)]
        if all(opened) or time.monotonic() - begun < GIVES_UP:
            break  # what fails later may have had its answer too late
    assert all(opened)
    wire.data(opened[0][0], b"on")
    assert wire.read(2) == b"on"


def test_t32_the_session_ends_while_its_questions_wait(server, login, targets):
    body = 'return { on_open = function() alknet.sleep(4.9) return "forward" end, on_auth = function() alknet.sleep(0.01) return "pass" end }'
    serving = server(policy=body)
    for _ in range(3):
        wire = login(serving)
        for n in range(40):
            wire.open_request(n, "127.0.0.1", targets.echo)
        assert wire.is_alive()
        wire.close()
    wait_until(lambda: serving.metric("alknet_sessions") == 0, 10, "the sessions to be gone")
    assert serving.metric("alknet_policy_errors_total") == 0
    assert login(serving).is_alive()


def test_t66_questions_that_wait_are_bounded(server, login, targets):
    """More than a session may have: denied at once, and the session lives."""
    serving = server(policy='return { on_open = function(_, to) if to.port == 1 then alknet.sleep(4.9) end return "forward" end }')
    wire = login(serving)
    for n in range(100):
        wire.open_request(n, "127.0.0.1", 1)
    wait_until(lambda: serving.metric("alknet_policy_errors_total") >= 36, 10, "the questions over the limit to be denied")
    assert serving.lines("too many questions wait")
    other = login(serving)
    assert other.open_channel(1, "127.0.0.1", targets.echo), "other sessions do not notice"
